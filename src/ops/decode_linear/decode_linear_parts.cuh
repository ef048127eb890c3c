// What the kernels of decode_linear share whatever the weights' type: asynchronous copies into shared memory,
// x staged (and normed) there, the tiles of sixteen rows of W that the warps of a block add up, and
// their epilogues. Included by decode_linear's .cu files only.
#pragma once

#include <cuda_fp16.h>

#include "device/cuda/bulk_copy.cuh"
#include "device/cuda/cuda_status.h"
#include "ops/bf16_vector.cuh"
#include "ops/decode_linear/decode_linear_cuda.h"

namespace crible::cuda::decode_linear_parts {

inline constexpr int kTileRows = 16;  // rows of W a block takes at once
inline constexpr int kRowPadding =
    64;  // bytes between rows of x in shared memory: keeps reads of two rows apart
inline constexpr int kMaxShared = 227 * 1024;
// More than half of a multiprocessor's: the next kernel's block cannot join this one, only replace it.
inline constexpr size_t kExclusiveBytes = 116 * 1024;
inline constexpr int kStaticBytes = 1024;  // at most

__device__ inline void copy_async(uint32_t shared, const uint8_t* global, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "l"(policy)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kRequested>
__device__ inline void wait_for_oldest_copy() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kRequested - 1) : "memory");
}
__device__ inline uint4 read_shared(uint32_t shared) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(shared)
               : "memory");
  return v;
}
__device__ inline void prefetch_to_l2(const uint8_t* p, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
}

// Eight values as FP16, saturating.
__device__ inline uint4 encode_half(const float (&v)[kVector]) {
  constexpr float kLargest = 65504.0f;
  uint4 packed;
  auto* pairs = reinterpret_cast<__half2*>(&packed);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs[i] = __floats2half2_rn(fminf(fmaxf(v[2 * i], -kLargest), kLargest),
                                 fminf(fmaxf(v[2 * i + 1], -kLargest), kLargest));
  }
  return packed;
}

__host__ __device__ inline int x_row_bytes(int in_features) {
  return in_features * 2 + kRowPadding;
}
__host__ __device__ inline int partial_floats(int warps, int rows) {
  return warps * kTileRows * rows;
}

// The rows of W in a tile: 16 neighbours, or 8 of the gate matrix and the 8 of the up matrix they meet.
template <DecodeEpilogue kEpilogue>
struct TileMap {
  static constexpr int kOutputs = kEpilogue == DecodeEpilogue::kSiluMul ? 8 : 16;
  __device__ static int64_t row(const DecodeLinearArgs& a, int tile, int i) {
    if constexpr (kEpilogue == DecodeEpilogue::kSiluMul) {
      return (i < 8 ? 0 : a.out_features) + static_cast<int64_t>(tile) * 8 + i % 8;
    } else {
      return static_cast<int64_t>(tile) * 16 + i;
    }
  }
};

// The weights of the norm that a thread needs first, requested before the kernel that makes x has ended: no
// kernel writes them.
constexpr int kNormVectors = 2;
struct NormWeights {
  Bf16Vector vectors[kNormVectors];
};
template <int kWarps>
__device__ inline NormWeights load_norm_weights(const DecodeLinearArgs& a) {
  NormWeights weights;
  if (a.norm_weight == nullptr) return weights;
#pragma unroll
  for (int i = 0; i < kNormVectors; ++i) {
    const int v = i * kWarps * 32 + static_cast<int>(threadIdx.x);
    if (v < a.in_features / kVector) weights.vectors[i] = load_vector(a.norm_weight + v * kVector);
  }
  return weights;
}

// Norms a thread's own vectors of one row, which lie in shared memory as they came.
template <typename Encoding, int kWarps>
__device__ inline void norm_row(const DecodeLinearArgs& a, const NormWeights& weights, uint8_t* row,
                                float scale) {
  const auto norm = [&](int v, const Bf16Vector& weight_vector) {
    auto* place = reinterpret_cast<uint4*>(row + v * 16);
    float values[kVector];
    float weight[kVector];
    to_floats(load_vector(reinterpret_cast<const __nv_bfloat16*>(place)), values);
    to_floats(weight_vector, weight);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[j] *= scale * weight[j];
    *place = Encoding::encode(values);
  };
  const int vectors = a.in_features / kVector;
  int v = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kNormVectors; ++i, v += kWarps * 32) {
    if (v < vectors) norm(v, weights.vectors[i]);
  }
  for (; v < vectors; v += kWarps * 32) norm(v, load_vector(a.norm_weight + v * kVector));
}

// Puts norm(x) into shared memory, vector by vector as Encoding has it. Each thread keeps to its own elements
// until the last barrier. meet(): a barrier of the kWarps warps that take part.
template <typename Encoding, int kWarps, typename Meet>
__device__ inline void stage_x(const DecodeLinearArgs& a, const NormWeights& weights, uint8_t* x_shared,
                               float (*sums)[kWarps], Meet&& meet) {
  constexpr int kThreads = kWarps * 32;
  constexpr int kAtOnce = 4;  // loads of a thread on their way together
  const int stride = x_row_bytes(a.in_features);
  const int vectors = a.in_features / kVector;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int r = 0; r < a.rows; ++r) {
    float sum = 0;
    for (int first = static_cast<int>(threadIdx.x); first < vectors; first += kAtOnce * kThreads) {
      Bf16Vector raw[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int v = first + i * kThreads;
        if (v < vectors) raw[i] = load_vector(a.x + r * a.x_stride + v * kVector);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int v = first + i * kThreads;
        if (v >= vectors) break;
        float values[kVector];
        to_floats(raw[i], values);
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum += values[j] * values[j];
        // As it came if it is to be normed yet.
        const uint4 packed =
            a.norm_weight == nullptr ? Encoding::encode(values) : *reinterpret_cast<const uint4*>(&raw[i]);
        *reinterpret_cast<uint4*>(x_shared + r * stride + v * 16) = packed;
      }
    }
    if (a.norm_weight != nullptr) {
      sum = lane_sum<32>(sum);
      if (threadIdx.x % 32 == 0) sums[r][warp] = sum;
    }
  }
  meet();
  if (a.norm_weight == nullptr) return;
  for (int r = 0; r < a.rows; ++r) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums[r][w];
    const float scale = rsqrtf(sum / static_cast<float>(a.in_features) + a.epsilon);
    norm_row<Encoding, kWarps>(a, weights, x_shared + r * stride, scale);
  }
  meet();
}

// What a thread needs of memory to finish an output, loaded before the sums are there: output i of a tile for
// row r of x.
struct Outside {
  float added = 0;     // bias or residual
  float scale = 1;     // of its row of W
  float up_scale = 1;  // of the row of the up matrix that it meets
};

template <bool kRowScales, DecodeEpilogue kEpilogue>
__device__ inline Outside load_outside(const DecodeLinearArgs& a, int tile, int i, int r) {
  using Map = TileMap<kEpilogue>;
  const int feature = tile * Map::kOutputs + i;
  Outside outside;
  if (r >= a.rows) return outside;
  if constexpr (kRowScales) {
    outside.scale = a.weight_scale[Map::row(a, tile, i)];
    if constexpr (kEpilogue == DecodeEpilogue::kSiluMul)
      outside.up_scale = a.weight_scale[Map::row(a, tile, i + 8)];
  }
  if constexpr (kEpilogue == DecodeEpilogue::kAddResidual) {
    outside.added = __bfloat162float(static_cast<const __nv_bfloat16*>(a.out)[r * a.out_stride + feature]);
  }
  if constexpr (kEpilogue == DecodeEpilogue::kStore) {
    if (a.bias != nullptr) outside.added = __bfloat162float(a.bias[feature]);
  }
  return outside;
}

// Writes output i of a tile for row r of x. total(row): the sum of that row of the tile.
template <DecodeEpilogue kEpilogue, typename Total>
__device__ inline void write_output(const DecodeLinearArgs& a, int tile, int i, int r, const Outside& outside,
                                    Total&& total) {
  const int64_t place = r * a.out_stride + tile * TileMap<kEpilogue>::kOutputs + i;
  const float value = total(i) * outside.scale;
  if constexpr (kEpilogue == DecodeEpilogue::kSiluMul) {
    const float up = total(i + 8) * outside.up_scale;
    static_cast<__nv_bfloat16*>(a.out)[place] = __float2bfloat16_rn(value / (1.0f + __expf(-value)) * up);
  } else if constexpr (kEpilogue == DecodeEpilogue::kLogits) {
    static_cast<float*>(a.out)[place] = value;
  } else {
    static_cast<__nv_bfloat16*>(a.out)[place] = __float2bfloat16_rn(value + outside.added);
  }
}

inline int multiprocessors() {
  int device = 0;
  int count = 0;
  CRIBLE_CUDA_CHECK(cudaGetDevice(&device));
  CRIBLE_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace crible::cuda::decode_linear_parts
