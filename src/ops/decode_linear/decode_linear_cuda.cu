#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/decode_linear/decode_linear_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
constexpr int kTileRows = 16;    // rows of W a block takes at once: M of the mma
constexpr int kWindowBytes = 64;  // of one row of W that a warp reads with one load
constexpr int kInFlight = 4;     // windows a thread has requested ahead
constexpr int kRowPadding = 64;  // bytes between rows of x in shared memory: keeps 16-byte reads apart
constexpr int kMaxShared = 227 * 1024;

struct Fragment {
  uint4 low;   // row g of the tile
  uint4 high;  // row g + 8
};

// Weights are read once a step: they leave the L2 cache first, and what was prefetched into it stays.
__device__ inline uint64_t streaming_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline uint4 load_streamed(const uint8_t* p, uint64_t policy) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p), "l"(policy));
  return v;
}
__device__ inline void prefetch_to_l2(const uint8_t* p, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
}

__device__ inline void multiply_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                     uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline void multiply_f16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                    uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// Two E4M3 values as FP16, exactly.
__device__ inline uint32_t widen(uint32_t two) {
  uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(two)));
  return halves;
}

// x in shared memory has 16-bit elements: BF16 for BF16 weights, FP16 for FP8.
template <WeightType kType>
struct Operand;

template <>
struct Operand<WeightType::kBf16> {
  static constexpr int kBytes = 2;
  static constexpr int kXVectors = 1;  // 16-byte reads of x per window and thread
  __device__ static uint4 encode(const float (&v)[kVector]) {
    const Bf16Vector packed = to_vector(v);
    return *reinterpret_cast<const uint4*>(&packed);
  }
  __device__ static void multiply(float (&c)[4], const Fragment& w, const uint4 (&x)[kXVectors]) {
    multiply_bf16(c, w.low.x, w.high.x, w.low.y, w.high.y, x[0].x, x[0].y);
    multiply_bf16(c, w.low.z, w.high.z, w.low.w, w.high.w, x[0].z, x[0].w);
  }
};

template <>
struct Operand<WeightType::kFp8> {
  static constexpr int kBytes = 1;
  static constexpr int kXVectors = 2;
  __device__ static uint4 encode(const float (&v)[kVector]) {
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
  __device__ static void step(float (&c)[4], uint32_t low, uint32_t high, uint32_t x0, uint32_t x1) {
    multiply_f16(c, widen(low), widen(high), widen(low >> 16), widen(high >> 16), x0, x1);
  }
  __device__ static void multiply(float (&c)[4], const Fragment& w, const uint4 (&x)[kXVectors]) {
    step(c, w.low.x, w.high.x, x[0].x, x[0].y);
    step(c, w.low.y, w.high.y, x[0].z, x[0].w);
    step(c, w.low.z, w.high.z, x[1].x, x[1].y);
    step(c, w.low.w, w.high.w, x[1].z, x[1].w);
  }
};

__host__ __device__ inline int x_row_bytes(int in_features) { return in_features * 2 + kRowPadding; }
__host__ __device__ inline int partial_floats(int rows) { return kWarps * kTileRows * rows; }
inline size_t shared_bytes(int rows, int64_t in_features) {
  return static_cast<size_t>(rows) * x_row_bytes(static_cast<int>(in_features)) + 2 * sizeof(float) * partial_floats(rows);
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

// Puts norm(x) into shared memory. Each thread keeps to its own elements until the last barrier.
template <WeightType kType>
__device__ void stage_x(const DecodeLinearArgs& a, uint8_t* x_shared, float (*sums)[kWarps]) {
  const int stride = x_row_bytes(a.in_features);
  const int vectors = a.in_features / kVector;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int r = 0; r < a.rows; ++r) {
    float sum = 0;
    for (int v = static_cast<int>(threadIdx.x); v < vectors; v += kThreads) {
      const Bf16Vector raw = load_vector(a.x + r * a.x_stride + v * kVector);
      float values[kVector];
      to_floats(raw, values);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum += values[j] * values[j];
      const uint4 packed = a.norm_weight == nullptr ? Operand<kType>::encode(values) : *reinterpret_cast<const uint4*>(&raw);
      *reinterpret_cast<uint4*>(x_shared + r * stride + v * 16) = packed;
    }
    if (a.norm_weight != nullptr) {
      sum = lane_sum<32>(sum);
      if (threadIdx.x % 32 == 0) sums[r][warp] = sum;
    }
  }
  __syncthreads();
  if (a.norm_weight == nullptr) return;
  for (int r = 0; r < a.rows; ++r) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sums[r][w];
    const float scale = rsqrtf(sum / static_cast<float>(a.in_features) + a.epsilon);
    for (int v = static_cast<int>(threadIdx.x); v < vectors; v += kThreads) {
      auto* place = reinterpret_cast<uint4*>(x_shared + r * stride + v * 16);
      float values[kVector];
      float weight[kVector];
      to_floats(*reinterpret_cast<const Bf16Vector*>(place), values);
      to_floats(load_vector(a.norm_weight + v * kVector), weight);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= scale * weight[j];
      *place = Operand<kType>::encode(values);
    }
  }
  __syncthreads();
}

// Adds up the warps' shares of a tile and writes its outputs: thread i has output i % kOutputs of batch
// row i / kOutputs. `prior` is what it had loaded of the residual.
template <WeightType kType, DecodeEpilogue kEpilogue>
__device__ void finish_tile(const DecodeLinearArgs& a, const float* partial, int tile, float prior) {
  using Map = TileMap<kEpilogue>;
  const int i = static_cast<int>(threadIdx.x) % Map::kOutputs;
  const int r = static_cast<int>(threadIdx.x) / Map::kOutputs;
  if (r >= a.rows) return;
  const auto total = [&](int row) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += partial[(w * a.rows + r) * kTileRows + row];
    if constexpr (kType == WeightType::kFp8) sum *= a.weight_scale[Map::row(a, tile, row)];
    return sum;
  };
  const int feature = tile * Map::kOutputs + i;
  const int64_t place = r * a.out_stride + feature;
  const float value = total(i);
  if constexpr (kEpilogue == DecodeEpilogue::kSiluMul) {
    const float up = total(i + 8);
    static_cast<__nv_bfloat16*>(a.out)[place] = __float2bfloat16_rn(value / (1.0f + __expf(-value)) * up);
  } else if constexpr (kEpilogue == DecodeEpilogue::kLogits) {
    static_cast<float*>(a.out)[place] = value;
  } else {
    static_cast<__nv_bfloat16*>(a.out)[place] = __float2bfloat16_rn(value + prior);
  }
}

template <DecodeEpilogue kEpilogue>
__device__ float load_prior(const DecodeLinearArgs& a, int tile) {
  constexpr int kOutputs = TileMap<kEpilogue>::kOutputs;
  const int r = static_cast<int>(threadIdx.x) / kOutputs;
  const int feature = tile * kOutputs + static_cast<int>(threadIdx.x) % kOutputs;
  if (r >= a.rows) return 0;
  if constexpr (kEpilogue == DecodeEpilogue::kAddResidual) {
    return __bfloat162float(static_cast<const __nv_bfloat16*>(a.out)[r * a.out_stride + feature]);
  }
  if constexpr (kEpilogue == DecodeEpilogue::kStore) {
    return a.bias == nullptr ? 0.0f : __bfloat162float(a.bias[feature]);
  }
  return 0;
}

// One warp's walk over a tile's windows, `kInFlight` ahead of the product.
template <WeightType kType, DecodeEpilogue kEpilogue>
struct WeightStream {
  const uint8_t* low;
  const uint8_t* high;
  int windows;  // of a row
  int warp;
  uint64_t policy;
  Fragment buffer[kInFlight];

  __device__ void aim(const DecodeLinearArgs& a, int tile, int lane) {
    const int64_t row_bytes = static_cast<int64_t>(a.in_features) * Operand<kType>::kBytes;
    const auto* weight = static_cast<const uint8_t*>(a.weight) + (lane % 4) * 16;
    low = weight + TileMap<kEpilogue>::row(a, tile, lane / 4) * row_bytes;
    high = weight + TileMap<kEpilogue>::row(a, tile, lane / 4 + 8) * row_bytes;
  }
  __device__ void load(int slot, int group) {
    const int window = (group * kInFlight + slot) * kWarps + warp;
    const uint4 nothing = {0, 0, 0, 0};
    const bool present = window < windows;
    buffer[slot].low = present ? load_streamed(low + window * kWindowBytes, policy) : nothing;
    buffer[slot].high = present ? load_streamed(high + window * kWindowBytes, policy) : nothing;
  }
};

// What follows the first windows of this block's first tile, and its next tiles, up to `budget` bytes.
template <WeightType kType, DecodeEpilogue kEpilogue>
__device__ void prefetch_weights(const DecodeLinearArgs& a, int tiles, int budget) {
  if (threadIdx.x >= kTileRows) return;
  const int row_bytes = a.in_features * Operand<kType>::kBytes;
  int left = budget / kTileRows;
  int start = kInFlight * kWarps * kWindowBytes;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles && left > 0; tile += static_cast<int>(gridDim.x)) {
    const int bytes = min(left, row_bytes - start);
    if (bytes > 0) {
      const auto* row = static_cast<const uint8_t*>(a.weight) +
                        TileMap<kEpilogue>::row(a, tile, static_cast<int>(threadIdx.x)) * row_bytes;
      prefetch_to_l2(row + start, bytes);
      left -= bytes;
    }
    start = 0;
  }
}

template <WeightType kType, DecodeEpilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 2) decode_linear_kernel(DecodeLinearArgs a, DecodeSchedule schedule) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float sums[kMaxDecodeRows][kWarps];
  using Traits = Operand<kType>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int tiles = a.out_features / TileMap<kEpilogue>::kOutputs;
  const int stride = x_row_bytes(a.in_features);
  auto* partials = reinterpret_cast<float*>(shared + a.rows * stride);

  WeightStream<kType, kEpilogue> weights;
  weights.windows = a.in_features * Traits::kBytes / kWindowBytes;
  weights.warp = warp;
  weights.policy = streaming_policy();
  const int groups = (weights.windows + kWarps * kInFlight - 1) / (kWarps * kInFlight);
  int tile = static_cast<int>(blockIdx.x);
  weights.aim(a, tile, lane);
#pragma unroll
  for (int slot = 0; slot < kInFlight; ++slot) weights.load(slot, 0);
  prefetch_weights<kType, kEpilogue>(a, tiles, schedule.prefetch_bytes);

  const int grid = static_cast<int>(gridDim.x);
  int trigger = tile + (tiles - 1 - tile) / grid * grid - schedule.trigger_tiles * grid;
  if (trigger < tile) cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  stage_x<kType>(a, shared, sums);

  // Column n of the product is batch row n: the four lanes of group n read it, or zeros beyond the batch.
  const int n = lane / 4;
  const bool reads = n < a.rows;
  const uint8_t* x = shared + (reads ? n : 0) * stride + (lane % 4) * Traits::kXVectors * 16;
  for (int parity = 0; tile < tiles; tile += grid, parity ^= 1) {
    if (tile == trigger) cudaTriggerProgrammaticLaunchCompletion();
    const float prior = load_prior<kEpilogue>(a, tile);
    float c[4] = {};
    for (int group = 0; group < groups; ++group) {
      int next = group + 1;
      if (next == groups) {
        next = 0;
        // After the last tile the same rows are asked for once more, from L2, and thrown away: no branch.
        weights.aim(a, min(tile + grid, tiles - 1), lane);
      }
#pragma unroll
      for (int slot = 0; slot < kInFlight; ++slot) {
        const int window = (group * kInFlight + slot) * kWarps + warp;
        uint4 xv[Traits::kXVectors];
#pragma unroll
        for (int i = 0; i < Traits::kXVectors; ++i) {
          xv[i] = {0, 0, 0, 0};
          if (reads && window < weights.windows) {
            xv[i] = *reinterpret_cast<const uint4*>(x + (window * Traits::kXVectors) * kWindowBytes + i * 16);
          }
        }
        Traits::multiply(c, weights.buffer[slot], xv);
        weights.load(slot, next);
      }
    }
    // Lane (g, t) has rows g and g + 8 of batch rows 2t and 2t + 1.
    float* partial = partials + parity * partial_floats(a.rows);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = (lane % 4) * 2 + i % 2;
      if (r < a.rows) partial[(warp * a.rows + r) * kTileRows + lane / 4 + (i / 2) * 8] = c[i];
    }
    __syncthreads();
    finish_tile<kType, kEpilogue>(a, partial, tile, prior);
  }
}

template <typename Visit>
void for_kernel(WeightType type, DecodeEpilogue epilogue, Visit&& visit) {
  const auto with_type = [&](auto weight) {
    constexpr WeightType kType = decltype(weight)::value;
    switch (epilogue) {
      case DecodeEpilogue::kStore: return visit(&decode_linear_kernel<kType, DecodeEpilogue::kStore>);
      case DecodeEpilogue::kAddResidual: return visit(&decode_linear_kernel<kType, DecodeEpilogue::kAddResidual>);
      case DecodeEpilogue::kSiluMul: return visit(&decode_linear_kernel<kType, DecodeEpilogue::kSiluMul>);
      case DecodeEpilogue::kLogits: return visit(&decode_linear_kernel<kType, DecodeEpilogue::kLogits>);
    }
  };
  if (type == WeightType::kBf16) {
    with_type(std::integral_constant<WeightType, WeightType::kBf16>());
  } else {
    with_type(std::integral_constant<WeightType, WeightType::kFp8>());
  }
}

int multiprocessors() {
  int device = 0;
  int count = 0;
  CRIBLE_CUDA_CHECK(cudaGetDevice(&device));
  CRIBLE_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace

bool decode_linear_fits(int rows, int64_t out_features, int64_t in_features, DecodeEpilogue epilogue) {
  const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? 8 : 16;
  return rows >= 1 && rows <= kMaxDecodeRows && out_features % outputs == 0 && in_features % 64 == 0 &&
         shared_bytes(rows, in_features) + sizeof(float) * kMaxDecodeRows * kWarps <= kMaxShared;
}

void prepare_decode_linear() {
  constexpr int kStaticBytes = sizeof(float) * kMaxDecodeRows * kWarps;
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    for (const DecodeEpilogue epilogue : {DecodeEpilogue::kStore, DecodeEpilogue::kAddResidual,
                                          DecodeEpilogue::kSiluMul, DecodeEpilogue::kLogits}) {
      for_kernel(type, epilogue, [](auto* kernel) { allow_shared_bytes(kernel, kMaxShared - kStaticBytes); });
    }
  }
}

void decode_linear(const CudaStream& stream, WeightType type, DecodeEpilogue epilogue, const DecodeLinearArgs& args,
                   const DecodeSchedule& schedule) {
  CHECK(decode_linear_fits(args.rows, args.out_features, args.in_features, epilogue), "{} rows of {} x {}", args.rows,
        args.out_features, args.in_features);
  const int tiles = args.out_features / (epilogue == DecodeEpilogue::kSiluMul ? 8 : 16);
  const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(std::min(tiles, multiprocessors()))),
                             .block = dim3(kThreads),
                             .shared_bytes = shared_bytes(args.rows, args.in_features),
                             .dependent = true};
  for_kernel(type, epilogue, [&](auto* kernel) { launch(stream.get(), shape, kernel, args, schedule); });
}

}  // namespace crible::cuda
