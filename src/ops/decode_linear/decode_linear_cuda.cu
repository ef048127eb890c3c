#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/decode_linear/decode_linear_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTileRows = 16;      // rows of W a block takes at once
constexpr int kWindowBytes = 128;  // of each of them that a warp takes at once: whole lines
constexpr int kWindowStage = kTileRows * kWindowBytes;  // bytes of a warp's window
constexpr int kRowPadding = 64;  // bytes between rows of x in shared memory: keeps reads of two rows apart
constexpr int kNarrowRows = 4;   // of x that one mma serves; with more, each operand is multiplied twice
// Windows that a warp has requested ahead. With many rows, x needs the room.
template <bool kWide>
inline constexpr int kStages = kWide ? 3 : 6;
template <bool kWide>
inline constexpr int kRingBytes = kWarps* kStages<kWide>* kWindowStage;
constexpr int kMaxShared = 227 * 1024;
// More than half of a multiprocessor's: the next kernel's block cannot join this one, only replace it.
constexpr size_t kExclusiveBytes = 116 * 1024;
constexpr int kStaticBytes = 1024;  // at most

// Weights are read once a step: they leave the L2 cache first, and what was prefetched into it stays.
__device__ inline uint64_t streaming_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
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
  static constexpr int kBytes = 1 * 2;
  static constexpr int kVectors = 1;  // eight-element vectors in a thread's 16 bytes
  __device__ static uint4 encode(const float (&v)[kVector]) {
    const Bf16Vector packed = to_vector(v);
    return *reinterpret_cast<const uint4*>(&packed);
  }
  __device__ static uint4 vector(const uint4& w, int) { return w; }
  __device__ static void multiply(float (&c)[4], const uint4& w, uint32_t x0, uint32_t x1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w), "r"(x0), "r"(x1));
  }
};

template <>
struct Operand<WeightType::kFp8> {
  static constexpr int kBytes = 1;
  static constexpr int kVectors = 2;
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
  __device__ static uint4 vector(const uint4& w, int i) {
    const uint32_t low = i == 0 ? w.x : w.z;
    const uint32_t high = i == 0 ? w.y : w.w;
    return {widen(low), widen(low >> 16), widen(high), widen(high >> 16)};
  }
  __device__ static void multiply(float (&c)[4], const uint4& w, uint32_t x0, uint32_t x1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(w.x), "r"(w.y), "r"(w.z), "r"(w.w), "r"(x0), "r"(x1));
  }
};

// x lies vector by vector with its pairs in the order 0, 2, 1, 3: the operand's registers 0 and 2 meet pairs
// 0 and 2 (columns 0 to 3), registers 1 and 3 meet pairs 1 and 3 (columns 4 to 7), each an 8-byte read.
__device__ inline uint4 swap_middle(const uint4& v) {
  return {v.x, v.z, v.y, v.w};
}

__host__ __device__ inline int x_row_bytes(int in_features) {
  return in_features * 2 + kRowPadding;
}
__host__ __device__ inline int partial_floats(int rows) {
  return kWarps * kTileRows * rows;
}
inline size_t shared_bytes(int rows, int64_t in_features) {
  return (rows > kNarrowRows ? kRingBytes<true> : kRingBytes<false>)+static_cast<size_t>(rows) *
             x_row_bytes(static_cast<int>(in_features)) +
         2 * sizeof(float) * partial_floats(rows);
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
      // As it came if it is to be normed yet.
      const uint4 packed = a.norm_weight == nullptr ? swap_middle(Operand<kType>::encode(values))
                                                    : *reinterpret_cast<const uint4*>(&raw);
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
      to_floats(load_vector(reinterpret_cast<const __nv_bfloat16*>(place)), values);
      to_floats(load_vector(a.norm_weight + v * kVector), weight);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= scale * weight[j];
      *place = swap_middle(Operand<kType>::encode(values));
    }
  }
  __syncthreads();
}

// What a thread needs of memory to finish a tile, loaded when the tile begins. Thread i has output i %
// kOutputs of batch row i / kOutputs.
struct Outside {
  float added = 0;     // bias or residual
  float scale = 1;     // of its row of W
  float up_scale = 1;  // of the row of the up matrix that it meets
};

template <WeightType kType, DecodeEpilogue kEpilogue>
__device__ Outside load_outside(const DecodeLinearArgs& a, int tile) {
  using Map = TileMap<kEpilogue>;
  const int i = static_cast<int>(threadIdx.x) % Map::kOutputs;
  const int r = static_cast<int>(threadIdx.x) / Map::kOutputs;
  const int feature = tile * Map::kOutputs + i;
  Outside outside;
  if (r >= a.rows) return outside;
  if constexpr (kType == WeightType::kFp8) {
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

// Adds up the warps' shares of a tile and writes its outputs.
template <WeightType kType, DecodeEpilogue kEpilogue>
__device__ void finish_tile(const DecodeLinearArgs& a, const float* partial, int tile,
                            const Outside& outside) {
  using Map = TileMap<kEpilogue>;
  const int i = static_cast<int>(threadIdx.x) % Map::kOutputs;
  const int r = static_cast<int>(threadIdx.x) / Map::kOutputs;
  if (r >= a.rows) return;
  const auto total = [&](int row) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += partial[(w * a.rows + r) * kTileRows + row];
    return sum;
  };
  const int64_t place = r * a.out_stride + tile * Map::kOutputs + i;
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

// A warp's requests, tile after tile of its block, and its places in the ring. In a window, row r's 16-byte
// chunk c lies at chunk c ^ 4·(r mod 2): two rows that are read together fall on different banks.
template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide>
struct WeightStream {
  const uint8_t* next;  // next request: this thread's chunk of row lane / 8 of the tile
  int64_t row_bytes;
  uint64_t policy;
  uint32_t ring;    // the warp's first place, an address in shared memory
  uint32_t place;   // of the oldest window
  uint32_t offset;  // of this thread's first copy in a window
  int tile;         // of the next request
  int left;         // windows of that tile not yet requested
  int windows;      // of a tile, that this warp takes

  __device__ void start(const DecodeLinearArgs& a, const uint8_t* shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    row_bytes = static_cast<int64_t>(a.in_features) * Operand<kType>::kBytes;
    policy = streaming_policy();
    ring = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + warp * kStages<kWide> * kWindowStage;
    place = ring;
    offset = lane / 8 * kWindowBytes + (lane % 8 ^ lane / 8 % 2 * 4) * 16;
    windows = (static_cast<int>(row_bytes) / kWindowBytes - warp + kWarps - 1) / kWarps;
    tile = static_cast<int>(blockIdx.x);
    aim(a);
  }
  __device__ void aim(const DecodeLinearArgs& a) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    next = static_cast<const uint8_t*>(a.weight) + TileMap<kEpilogue>::row(a, tile, lane / 8) * row_bytes +
           warp * kWindowBytes + lane % 8 * 16;
    left = windows;
  }
  // Requests the next window, if there is one, where the oldest was.
  __device__ void request(const DecodeLinearArgs& a, int tiles) {
    if (left == 0 && tile < tiles) {
      tile += static_cast<int>(gridDim.x);
      if (tile < tiles) aim(a);
    }
    if (left > 0) {
      // Rows 0, 4, 8 and 12 from this thread's first.
      const int64_t half = (kEpilogue == DecodeEpilogue::kSiluMul ? int64_t{a.out_features} : 8) * row_bytes;
      const uint32_t to = place + offset;
      copy_async(to, next, policy);
      copy_async(to + 4 * kWindowBytes, next + 4 * row_bytes, policy);
      copy_async(to + 8 * kWindowBytes, next + half, policy);
      copy_async(to + 12 * kWindowBytes, next + half + 4 * row_bytes, policy);
      next += kWarps * kWindowBytes;
      --left;
    }
    commit_copies();
    place = place == ring + (kStages<kWide> - 1) * kWindowStage ? ring : place + kWindowStage;
    // Keeps the place in a thread's own register: ptxas 13.0 encodes a copy with a uniform part of the
    // address and a cache policy wrongly (an illegal instruction at run time).
    asm volatile("" : "+r"(place));
  }
};

// What follows the first windows of this block's first tile, and its next tiles, up to `budget` bytes.
template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide>
__device__ void prefetch_weights(const DecodeLinearArgs& a, int tiles, int budget) {
  if (threadIdx.x >= kTileRows) return;
  const int row_bytes = a.in_features * Operand<kType>::kBytes;
  int left = budget / kTileRows;
  int start = kStages<kWide> * kWarps * kWindowBytes;  // of a row: already requested
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles && left > 0;
       tile += static_cast<int>(gridDim.x)) {
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

// Sums of a thread: of the tile's rows g (low) and g + 8 (high), each from the operand's registers 0 and 2 in
// elements 0 and 1, from its registers 1 and 3 in elements 2 and 3. Wide: kept apart, as every column is a
// row of x.
template <bool kWide>
struct Sums {
  float low[kWide ? 2 : 1][4] = {};
  float high[kWide ? 2 : 1][4] = {};
};

template <WeightType kType, bool kWide>
__device__ inline void multiply_window(Sums<kWide>& sums, const uint4& low, const uint4& high,
                                       const uint8_t* x) {
  using Traits = Operand<kType>;
#pragma unroll
  for (int i = 0; i < Traits::kVectors; ++i) {
    const uint4 l = Traits::vector(low, i);
    const uint4 h = Traits::vector(high, i);
    if constexpr (kWide) {
      const uint4 v = *reinterpret_cast<const uint4*>(x + i * 16);
      Traits::multiply(sums.low[0], l, v.x, v.y);
      Traits::multiply(sums.low[1], l, v.z, v.w);
      Traits::multiply(sums.high[0], h, v.x, v.y);
      Traits::multiply(sums.high[1], h, v.z, v.w);
    } else {
      const uint2 v = *reinterpret_cast<const uint2*>(x + i * 16);
      Traits::multiply(sums.low[0], l, v.x, v.y);
      Traits::multiply(sums.high[0], h, v.x, v.y);
    }
  }
}

// Puts this warp's share of the tile into partial[warp][row of x][row of the tile].
template <bool kWide>
__device__ inline void store_partial(const Sums<kWide>& sums, float* partial, int rows) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    float low;
    float high;
    const int r = 2 * t + j;
    if constexpr (kWide) {
      low = sums.low[0][j] + sums.low[1][2 + j];
      high = sums.high[0][j] + sums.high[1][2 + j];
    } else {
      // Columns 4 to 7 are in the upper two lanes of four.
      low = t < 2 ? sums.low[0][j] : sums.low[0][2 + j];
      high = t < 2 ? sums.high[0][j] : sums.high[0][2 + j];
      low += __shfl_xor_sync(~0u, low, 2);
      high += __shfl_xor_sync(~0u, high, 2);
    }
    if (r < rows && (kWide || t < 2)) {
      partial[(warp * rows + r) * kTileRows + g] = low;
      partial[(warp * rows + r) * kTileRows + g + 8] = high;
    }
  }
}

template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide>
__global__ void __launch_bounds__(kThreads, 2) decode_linear_kernel(DecodeLinearArgs a) {
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float squares[kMaxDecodeRows][kWarps];
  __shared__ uint4 zeros[2];
  using Traits = Operand<kType>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int tiles = a.out_features / TileMap<kEpilogue>::kOutputs;
  const int grid = static_cast<int>(gridDim.x);
  const int stride = x_row_bytes(a.in_features);
  uint8_t* x_shared = shared + kRingBytes<kWide>;
  auto* partials = reinterpret_cast<float*>(x_shared + a.rows * stride);

  WeightStream<kType, kEpilogue, kWide> weights;
  weights.start(a, shared);
#pragma unroll
  for (int stage = 0; stage < kStages<kWide>; ++stage) weights.request(a, tiles);
  prefetch_weights<kType, kEpilogue, kWide>(a, tiles, a.prefetch_bytes);

  // At once: as the next kernel's blocks find no room beside these, each starts on a multiprocessor that is
  // done.
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  if (threadIdx.x < 2) zeros[threadIdx.x] = {0, 0, 0, 0};
  stage_x<kType>(a, x_shared, squares);

  // The row of x that this lane's column is, and which of its pairs. Columns beyond the batch read zeros, on
  // the same path: the lanes of an mma must not part.
  const int column = lane / 4;
  const int row = kWide ? column : column % kNarrowRows;
  constexpr int kXWindow = kWindowBytes / Traits::kBytes * 2;  // bytes of x that meet a window
  const bool in_batch = row < a.rows;
  const uint8_t* x = in_batch
                         ? x_shared + row * stride + warp * kXWindow + (lane % 4) * Traits::kVectors * 16 +
                               (kWide ? 0 : column / kNarrowRows * 8)
                         : reinterpret_cast<const uint8_t*>(zeros);
  const int x_step = in_batch ? kWarps * kXWindow : 0;
  const int x_half = in_batch ? kXWindow / 2 : 0;
  // This lane's chunk of the tile's row lane / 4 in the first half of a window; the second is 4 chunks away.
  const uint32_t operand = column * kWindowBytes + (lane % 4 ^ column % 2 * 4) * 16;
  int parity = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += grid, parity ^= 1) {
    const Outside outside = load_outside<kType, kEpilogue>(a, tile);
    Sums<kWide> sums;
    const uint8_t* x_window = x;
    for (int window = 0; window < weights.windows; ++window) {
      wait_for_oldest_copy<kStages<kWide>>();
      __syncwarp();  // other lanes' copies, too
      const uint32_t from = weights.place + operand;
      const uint4 low = read_shared(from);
      const uint4 high = read_shared(from + 8 * kWindowBytes);
      const uint4 low_second = read_shared(from ^ 64);
      const uint4 high_second = read_shared((from ^ 64) + 8 * kWindowBytes);
      multiply_window<kType, kWide>(sums, low, high, x_window);
      multiply_window<kType, kWide>(sums, low_second, high_second, x_window + x_half);
      __syncwarp();  // all have read: the place may be overwritten
      weights.request(a, tiles);
      x_window += x_step;
    }
    float* partial = partials + parity * partial_floats(a.rows);
    store_partial<kWide>(sums, partial, a.rows);
    __syncthreads();
    finish_tile<kType, kEpilogue>(a, partial, tile, outside);
  }
}

template <typename Visit>
void for_kernel(WeightType type, DecodeEpilogue epilogue, int rows, Visit&& visit) {
  const auto with_epilogue = [&](auto weight, auto chosen) {
    constexpr WeightType kType = decltype(weight)::value;
    constexpr DecodeEpilogue kEpilogue = decltype(chosen)::value;
    if (rows > kNarrowRows) return visit(&decode_linear_kernel<kType, kEpilogue, true>);
    visit(&decode_linear_kernel<kType, kEpilogue, false>);
  };
  const auto with_type = [&](auto weight) {
    using E = DecodeEpilogue;
    switch (epilogue) {
      case E::kStore: return with_epilogue(weight, std::integral_constant<E, E::kStore>());
      case E::kAddResidual: return with_epilogue(weight, std::integral_constant<E, E::kAddResidual>());
      case E::kSiluMul: return with_epilogue(weight, std::integral_constant<E, E::kSiluMul>());
      case E::kLogits: return with_epilogue(weight, std::integral_constant<E, E::kLogits>());
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

bool decode_linear_fits(WeightType type, int rows, int64_t out_features, int64_t in_features,
                        DecodeEpilogue epilogue) {
  const int64_t per_window = kWindowBytes / (type == WeightType::kBf16 ? 2 : 1);
  const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? 8 : 16;
  return rows >= 1 && rows <= kMaxDecodeRows && out_features % outputs == 0 &&
         in_features % per_window == 0 && shared_bytes(rows, in_features) + kStaticBytes <= kMaxShared;
}

void prepare_decode_linear() {
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    for (const DecodeEpilogue epilogue : {DecodeEpilogue::kStore, DecodeEpilogue::kAddResidual,
                                          DecodeEpilogue::kSiluMul, DecodeEpilogue::kLogits}) {
      for (const int rows : {1, kMaxDecodeRows}) {
        for_kernel(type, epilogue, rows,
                   [](auto* kernel) { allow_shared_bytes(kernel, kMaxShared - kStaticBytes); });
      }
    }
  }
}

void decode_linear(const CudaStream& stream, WeightType type, DecodeEpilogue epilogue,
                   const DecodeLinearArgs& args) {
  CHECK(decode_linear_fits(type, args.rows, args.out_features, args.in_features, epilogue),
        "{} rows of {} x {}", args.rows, args.out_features, args.in_features);
  const int tiles = args.out_features / (epilogue == DecodeEpilogue::kSiluMul ? 8 : 16);
  const LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>(std::min(tiles, multiprocessors()))),
      .block = dim3(kThreads),
      .shared_bytes = std::max(shared_bytes(args.rows, args.in_features), kExclusiveBytes),
      .dependent = true};
  for_kernel(type, epilogue, args.rows, [&](auto* kernel) { launch(stream.get(), shape, kernel, args); });
}

}  // namespace crible::cuda
