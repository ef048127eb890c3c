#include <cuda_fp8.h>

#include "device/cuda/launch.h"
#include "ops/decode_linear/decode_linear_int4_cuda.h"
#include "ops/decode_linear/decode_linear_parts.cuh"

namespace crible::cuda {
namespace {

using namespace decode_linear_parts;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kWindowBytes = 128;                       // of a row that a warp takes at once: whole lines
constexpr int kWindowStage = kTileRows * kWindowBytes;  // bytes of a warp's window
constexpr int kNarrowRows = 4;  // of x that one mma serves; with more, each operand is multiplied twice
// Windows that a warp has requested ahead. With many rows, x needs the room.
template <bool kWide>
inline constexpr int kStages = kWide ? 3 : 6;
// Behind a window of FP8 weights with block scales: the scales of its upper and lower eight rows, padded to
// keep windows on whole lines.
template <bool kBlocks>
inline constexpr int kStageBytes = kWindowStage + (kBlocks ? 128 : 0);
template <bool kWide, bool kBlocks>
inline constexpr int kRingBytes = kWarps* kStages<kWide>* kStageBytes<kBlocks>;

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
  __device__ static uint4 encode(const float (&v)[kVector]) { return encode_half(v); }
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
template <WeightType kType>
struct SwappedEncoding {
  __device__ static uint4 encode(const float (&values)[kVector]) {
    const uint4 v = Operand<kType>::encode(values);
    return {v.x, v.z, v.y, v.w};
  }
};

inline size_t shared_bytes(int rows, int64_t in_features, bool blocks) {
  const int stages = rows > kNarrowRows ? kStages<true> : kStages<false>;
  return static_cast<size_t>(kWarps * stages * (blocks ? kStageBytes<true> : kStageBytes<false>)) +
         static_cast<size_t>(rows) * x_row_bytes(static_cast<int>(in_features)) +
         2 * sizeof(float) * partial_floats(kWarps, rows);
}

__device__ inline void copy_word_async(uint32_t shared, const float* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(global) : "memory");
}

// A warp's requests, tile after tile of its block, and its places in the ring. In a window, row r's 16-byte
// chunk c lies at chunk c ^ 4·(r mod 2): two rows that are read together fall on different banks.
template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide, bool kBlocks>
struct WeightStream {
  const uint8_t* next;      // next request: this thread's chunk of row lane / 8 of the tile
  const float* next_scale;  // blocks: of the tile's row 8 · lane
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
    policy = read_once_policy();
    ring = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) +
           warp * kStages<kWide> * kStageBytes<kBlocks>;
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
    if constexpr (kBlocks) {
      const int64_t block = TileMap<kEpilogue>::row(a, tile, lane % 2 * 8) / kFp8Block;
      next_scale = a.weight_scale + block * fp8_scale_stride(a.in_features) + warp;
    }
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
      if constexpr (kBlocks) {  // a window is as wide as a block
        if (threadIdx.x % 32 < 2) copy_word_async(place + kWindowStage + threadIdx.x % 32 * 4, next_scale);
        next_scale += kWarps;
      }
      --left;
    }
    commit_copies();
    place = place == ring + (kStages<kWide> - 1) * kStageBytes<kBlocks> ? ring : place + kStageBytes<kBlocks>;
    // Keeps the place in a thread's own register: ptxas 13.0 encodes a copy with a uniform part of the
    // address and a cache policy wrongly (an illegal instruction at run time).
    asm volatile("" : "+r"(place));
  }
};

// What follows the first windows of this block's first tile, and its next tiles, up to `budget` bytes.
template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide, bool kBlocks>
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

  __device__ void add(const Sums& more, float low_scale, float high_scale) {
#pragma unroll
    for (int i = 0; i < (kWide ? 2 : 1); ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        low[i][j] += low_scale * more.low[i][j];
        high[i][j] += high_scale * more.high[i][j];
      }
    }
  }
};

__device__ inline float read_scale(uint32_t shared) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(shared) : "memory");
  return v;
}

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

// long function: what a lane reads and where it adds up is worked out between the requests and the wait, to hide
// it, and then serves every tile.
template <WeightType kType, DecodeEpilogue kEpilogue, bool kWide, bool kBlocks>
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
  uint8_t* x_shared = shared + kRingBytes<kWide, kBlocks>;
  auto* partials = reinterpret_cast<float*>(x_shared + a.rows * stride);

  WeightStream<kType, kEpilogue, kWide, kBlocks> weights;
  weights.start(a, shared);
#pragma unroll
  for (int stage = 0; stage < kStages<kWide>; ++stage) weights.request(a, tiles);
  prefetch_weights<kType, kEpilogue, kWide, kBlocks>(a, tiles, a.prefetch_bytes);

  const NormWeights norm_weights = load_norm_weights<kWarps>(a);
  // At once: as the next kernel's blocks find no room beside these, each starts on a multiprocessor that is
  // done.
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  if (threadIdx.x < 2) zeros[threadIdx.x] = {0, 0, 0, 0};
  stage_x<SwappedEncoding<kType>, kWarps>(a, norm_weights, x_shared, squares, [] { __syncthreads(); });

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
  // Thread i finishes output i mod kOutputs of row i / kOutputs of x.
  constexpr int kOutputs = TileMap<kEpilogue>::kOutputs;
  const int output = static_cast<int>(threadIdx.x) % kOutputs;
  const int output_row = static_cast<int>(threadIdx.x) / kOutputs;
  int parity = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += grid, parity ^= 1) {
    const Outside outside = load_outside < kType == WeightType::kFp8 && !kBlocks,
                  kEpilogue > (a, tile, output, output_row);
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
      if constexpr (kBlocks) {
        Sums<kWide> of_window;
        multiply_window<kType, kWide>(of_window, low, high, x_window);
        multiply_window<kType, kWide>(of_window, low_second, high_second, x_window + x_half);
        sums.add(of_window, read_scale(weights.place + kWindowStage),
                 read_scale(weights.place + kWindowStage + 4));
      } else {
        multiply_window<kType, kWide>(sums, low, high, x_window);
        multiply_window<kType, kWide>(sums, low_second, high_second, x_window + x_half);
      }
      __syncwarp();  // all have read: the place may be overwritten
      weights.request(a, tiles);
      x_window += x_step;
    }
    float* partial = partials + parity * partial_floats(kWarps, a.rows);
    store_partial<kWide>(sums, partial, a.rows);
    __syncthreads();
    if (output_row >= a.rows) continue;
    write_output<kEpilogue>(a, tile, output, output_row, outside, [&](int row) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += partial[(w * a.rows + output_row) * kTileRows + row];
      return sum;
    });
  }
}

template <WeightType kType, bool kBlocks, typename Visit>
void for_epilogue(DecodeEpilogue epilogue, int rows, Visit&& visit) {
  const auto chosen = [&](auto constant) {
    constexpr DecodeEpilogue kEpilogue = decltype(constant)::value;
    if (rows > kNarrowRows) return visit(&decode_linear_kernel<kType, kEpilogue, true, kBlocks>);
    visit(&decode_linear_kernel<kType, kEpilogue, false, kBlocks>);
  };
  using E = DecodeEpilogue;
  switch (epilogue) {
    case E::kStore: return chosen(std::integral_constant<E, E::kStore>());
    case E::kAddResidual: return chosen(std::integral_constant<E, E::kAddResidual>());
    case E::kSiluMul: return chosen(std::integral_constant<E, E::kSiluMul>());
    case E::kLogits: return chosen(std::integral_constant<E, E::kLogits>());
  }
}

template <typename Visit>
void for_kernel(WeightType type, bool blocks, DecodeEpilogue epilogue, int rows, Visit&& visit) {
  if (type == WeightType::kBf16) return for_epilogue<WeightType::kBf16, false>(epilogue, rows, visit);
  if (blocks) return for_epilogue<WeightType::kFp8, true>(epilogue, rows, visit);
  for_epilogue<WeightType::kFp8, false>(epilogue, rows, visit);
}

bool block_scaled(WeightType type, const DecodeLinearArgs& args) {
  return type == WeightType::kFp8 && args.group != 0;
}

}  // namespace

bool decode_linear_fits(WeightType type, int rows, int64_t out_features, int64_t in_features,
                        DecodeEpilogue epilogue) {
  if (type == WeightType::kInt4) return decode_linear_int4_fits(rows, out_features, in_features, epilogue);
  const int64_t per_window = kWindowBytes / (type == WeightType::kBf16 ? 2 : 1);
  const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? 8 : 16;
  return rows >= 1 && rows <= kMaxDecodeRows && out_features % outputs == 0 &&
         in_features % per_window == 0 && shared_bytes(rows, in_features, true) + kStaticBytes <= kMaxShared;
}

void prepare_decode_linear() {
  prepare_decode_linear_int4();
  const auto allow = [](auto* kernel) { allow_shared_bytes(kernel, kMaxShared - kStaticBytes); };
  for (const DecodeEpilogue epilogue : {DecodeEpilogue::kStore, DecodeEpilogue::kAddResidual,
                                        DecodeEpilogue::kSiluMul, DecodeEpilogue::kLogits}) {
    for (const int rows : {1, kMaxDecodeRows}) {
      for_kernel(WeightType::kBf16, false, epilogue, rows, allow);
      for_kernel(WeightType::kFp8, false, epilogue, rows, allow);
      for_kernel(WeightType::kFp8, true, epilogue, rows, allow);
    }
  }
}

void decode_linear(const CudaStream& stream, WeightType type, DecodeEpilogue epilogue,
                   const DecodeLinearArgs& args) {
  CHECK(decode_linear_fits(type, args.rows, args.out_features, args.in_features, epilogue),
        "{} rows of {} x {}", args.rows, args.out_features, args.in_features);
  if (type == WeightType::kInt4) return decode_linear_int4(stream, epilogue, args);
  const bool blocks = block_scaled(type, args);
  CHECK(!blocks || args.out_features % kFp8Block == 0, "{} rows of blocks", args.out_features);
  const int tiles = args.out_features / (epilogue == DecodeEpilogue::kSiluMul ? 8 : 16);
  const LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>(std::min(tiles, multiprocessors()))),
      .block = dim3(kThreads),
      .shared_bytes = std::max(shared_bytes(args.rows, args.in_features, blocks), kExclusiveBytes),
      .dependent = true};
  for_kernel(type, blocks, epilogue, args.rows,
             [&](auto* kernel) { launch(stream.get(), shape, kernel, args); });
}

}  // namespace crible::cuda
