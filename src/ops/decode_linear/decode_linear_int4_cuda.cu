// decode_linear over 4-bit weights (int4_tiles.h). As in decode_linear_cuda.cu, but a window is one run of
// bytes, and what a thread unpacks of rows g and g + 8 makes the mma's first operand in its usual order:
// eight rows of x cost as much as one. The integers less their zero point are exact in FP16; their sums over
// a group are scaled in float32.
#include "device/cuda/launch.h"
#include "ops/decode_linear/decode_linear_int4_cuda.h"
#include "ops/decode_linear/decode_linear_parts.cuh"
#include "ops/matmul/int4_operand.cuh"
#include "ops/matmul/int4_tiles.h"

namespace crible::cuda {
namespace {

using namespace decode_linear_parts;

// Unpacking keeps a warp busy some four times as long as a window of the same bytes in BF16: twice the warps.
constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
// Windows that a warp has requested ahead: as many as x leaves room for.
constexpr int kDeepRing = 6;
constexpr int kShallowRing = 3;

struct HalfEncoding {
  __device__ static uint4 encode(const float (&values)[kVector]) { return encode_half(values); }
};

size_t shared_bytes(int rows, int64_t in_features, int64_t group, int stages) {
  return static_cast<size_t>(kWarps * stages * int4_window_bytes(group)) +
         static_cast<size_t>(rows) * static_cast<size_t>(x_row_bytes(static_cast<int>(in_features))) +
         2 * sizeof(float) * static_cast<size_t>(partial_floats(kWarps, rows));
}
bool fits_shared(int rows, int64_t in_features, int64_t group, int stages) {
  return shared_bytes(rows, in_features, group, stages) + kStaticBytes <= kMaxShared;
}

// A warp's requests, tile after tile of its block, and its places in the ring.
template <int kWindowBytes, int kStages>
struct WindowStream {
  const uint8_t* next;  // next request: this lane's first 16 bytes
  int64_t tile_bytes;
  uint64_t policy;
  uint32_t ring;   // the warp's first place, an address in shared memory
  uint32_t place;  // of the oldest window
  int tile;        // of the next request
  int left;        // windows of that tile not yet requested
  int windows;     // of a tile, that this warp takes

  __device__ void start(const DecodeLinearArgs& a, const uint8_t* shared) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int of_tile = a.in_features / kInt4WindowColumns;
    tile_bytes = static_cast<int64_t>(of_tile) * kWindowBytes;
    policy = streaming_policy();
    ring = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) +
           static_cast<uint32_t>(warp * kStages * kWindowBytes);
    place = ring;
    windows = (of_tile - warp + kWarps - 1) / kWarps;
    tile = static_cast<int>(blockIdx.x);
    aim(a);
  }
  __device__ void aim(const DecodeLinearArgs& a) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    next = static_cast<const uint8_t*>(a.weight) + tile * tile_bytes + warp * kWindowBytes + lane * 16;
    left = windows;
  }
  // Requests the next window, if there is one, where the oldest was.
  __device__ void request(const DecodeLinearArgs& a, int tiles) {
    constexpr int kHalf = kInt4WindowNibbleBytes / 2;
    constexpr int kRest = (kWindowBytes - kInt4WindowNibbleBytes) / 16;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (left == 0 && tile < tiles) {
      tile += static_cast<int>(gridDim.x);
      if (tile < tiles) aim(a);
    }
    if (left > 0) {
      const uint32_t to = place + static_cast<uint32_t>(lane) * 16;
      copy_async(to, next, policy);
      copy_async(to + kHalf, next + kHalf, policy);
      if (lane < kRest) copy_async(to + 2 * kHalf, next + 2 * kHalf, policy);
      next += kWarps * kWindowBytes;
      --left;
    }
    commit_copies();
    place = place == ring + (kStages - 1) * kWindowBytes ? ring : place + kWindowBytes;
    // Keeps the place in a thread's own register, as decode_linear_cuda.cu does and for its reason.
    asm volatile("" : "+r"(place));
  }
};

// What follows the windows in the ring, up to `budget` bytes of this block's tiles.
template <int kWindowBytes, int kStages>
__device__ void prefetch_tiles(const DecodeLinearArgs& a, int tiles, int budget) {
  if (threadIdx.x != 0) return;
  const int tile_bytes = a.in_features / kInt4WindowColumns * kWindowBytes;
  int start = kStages * kWarps * kWindowBytes;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles && budget > 0;
       tile += static_cast<int>(gridDim.x)) {
    const int bytes = min(budget & ~15, tile_bytes - start);
    if (bytes > 0) {
      prefetch_to_l2(static_cast<const uint8_t*>(a.weight) + static_cast<int64_t>(tile) * tile_bytes + start,
                     bytes);
      budget -= bytes;
    }
    start = max(0, start - tile_bytes);
  }
}

__device__ inline void multiply(float (&c)[4], uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3,
                                uint32_t x0, uint32_t x1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(w0), "r"(w1), "r"(w2), "r"(w3), "r"(x0), "r"(x1));
}

// Adds a window's products to the sums of rows g (elements 0, 1) and g + 8 (2, 3) of the tile with rows 2·t
// and 2·t + 1 of x. x: this lane's first vector.
template <int kGroups>
__device__ inline void multiply_window(float (&sums)[4], uint32_t window, const uint8_t* x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4 low = read_shared(window + static_cast<uint32_t>(lane) * 16);
  const uint4 high = read_shared(window + kInt4WindowNibbleBytes / 2 + static_cast<uint32_t>(lane) * 16);
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    const uint32_t group = window + kInt4WindowNibbleBytes + static_cast<uint32_t>(j) * kInt4GroupBytes;
    uint32_t scales;
    uint16_t zeros;
    asm volatile("ld.shared.u32 %0, [%1];"
                 : "=r"(scales)
                 : "r"(group + static_cast<uint32_t>(lane) / 4 * 4)
                 : "memory");
    asm volatile("ld.shared.u16 %0, [%1];"
                 : "=h"(zeros)
                 : "r"(group + 2 * kInt4TileRows + static_cast<uint32_t>(lane) / 4 * 2)
                 : "memory");
    const HalfZero low_zero(zeros & 0xFFu);
    const HalfZero high_zero(static_cast<uint32_t>(zeros) >> 8);
    float first[4] = {};
    float second[4] = {};
#pragma unroll
    for (int i = j * 4 / kGroups; i < (j + 1) * 4 / kGroups; ++i) {
      const uint4 l = low_zero.unpack(word_of(low, i));
      const uint4 h = high_zero.unpack(word_of(high, i));
      const uint4 v = *reinterpret_cast<const uint4*>(x + i * 64);
      multiply(first, l.x, h.x, l.y, h.y, v.x, v.y);
      multiply(second, l.z, h.z, l.w, h.w, v.z, v.w);
    }
    const float2 scale = __half22float2(reinterpret_cast<const __half2&>(scales));
    sums[0] += scale.x * (first[0] + second[0]);
    sums[1] += scale.x * (first[1] + second[1]);
    sums[2] += scale.y * (first[2] + second[2]);
    sums[3] += scale.y * (first[3] + second[3]);
  }
}

template <DecodeEpilogue kEpilogue, int kGroups, int kStages>
__global__ void __launch_bounds__(kThreads, 1) decode_linear_int4_kernel(DecodeLinearArgs a) {
  constexpr int kWindowBytes = kInt4WindowNibbleBytes + kGroups * kInt4GroupBytes;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float squares[kMaxDecodeRows][kWarps];
  __shared__ uint4 zeros[1];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int tiles = a.out_features / TileMap<kEpilogue>::kOutputs;
  const int stride = x_row_bytes(a.in_features);
  uint8_t* x_shared = shared + kWarps * kStages * kWindowBytes;
  auto* partials = reinterpret_cast<float*>(x_shared + a.rows * stride);

  WindowStream<kWindowBytes, kStages> weights;
  weights.start(a, shared);
#pragma unroll
  for (int stage = 0; stage < kStages; ++stage) weights.request(a, tiles);
  prefetch_tiles<kWindowBytes, kStages>(a, tiles, a.prefetch_bytes);

  // At once: as the next kernel's blocks find no room beside these, each starts on a multiprocessor that is
  // done.
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  if (threadIdx.x == 0) zeros[0] = {0, 0, 0, 0};
  stage_x<HalfEncoding, kWarps>(a, x_shared, squares);

  // Column lane / 4 of the mma is that row of x; beyond the batch it reads zeros, on the same path.
  const int row = lane / 4;
  const bool in_batch = row < a.rows;
  const uint8_t* x = x_shared + row * stride + warp * kInt4WindowColumns * 2 + lane % 4 * 16;
  const int x_step = kWarps * kInt4WindowColumns * 2;
  int parity = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles;
       tile += static_cast<int>(gridDim.x), parity ^= 1) {
    const Outside outside = load_outside<false, kEpilogue>(a, tile);
    float sums[4] = {};
    for (int window = 0; window < weights.windows; ++window) {
      wait_for_oldest_copy<kStages>();
      __syncwarp();  // other lanes' copies, too
      multiply_window<kGroups>(sums, weights.place,
                               in_batch ? x + window * x_step : reinterpret_cast<const uint8_t*>(zeros));
      __syncwarp();  // all have read: the place may be overwritten
      weights.request(a, tiles);
    }
    float* partial = partials + parity * partial_floats(kWarps, a.rows);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int r = 2 * (lane % 4) + j;
      if (r < a.rows) {
        partial[(warp * a.rows + r) * kTileRows + lane / 4] = sums[j];
        partial[(warp * a.rows + r) * kTileRows + lane / 4 + 8] = sums[2 + j];
      }
    }
    __syncthreads();
    finish_tile<kEpilogue, kWarps>(a, partial, tile, outside);
  }
}

template <DecodeEpilogue kEpilogue, typename Visit>
void for_group(int group, bool deep, Visit&& visit) {
  if (group == 128) {
    if (deep) return visit(&decode_linear_int4_kernel<kEpilogue, 1, kDeepRing>);
    return visit(&decode_linear_int4_kernel<kEpilogue, 1, kShallowRing>);
  }
  if (group == 64) return visit(&decode_linear_int4_kernel<kEpilogue, 2, kShallowRing>);
  visit(&decode_linear_int4_kernel<kEpilogue, 4, kShallowRing>);
}

template <typename Visit>
void for_kernel(DecodeEpilogue epilogue, int group, bool deep, Visit&& visit) {
  switch (epilogue) {
    case DecodeEpilogue::kStore: return for_group<DecodeEpilogue::kStore>(group, deep, visit);
    case DecodeEpilogue::kAddResidual: return for_group<DecodeEpilogue::kAddResidual>(group, deep, visit);
    case DecodeEpilogue::kSiluMul: return for_group<DecodeEpilogue::kSiluMul>(group, deep, visit);
    case DecodeEpilogue::kLogits: CHECK(false, "a head of 4-bit weights"); return;
  }
}

}  // namespace

bool decode_linear_int4_fits(int rows, int64_t out_features, int64_t in_features, DecodeEpilogue epilogue) {
  const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? 8 : 16;
  return epilogue != DecodeEpilogue::kLogits && rows >= 1 && rows <= kMaxDecodeRows &&
         out_features % outputs == 0 && in_features % kInt4WindowColumns == 0 &&
         fits_shared(rows, in_features, 32, kShallowRing);
}

void prepare_decode_linear_int4() {
  for (const DecodeEpilogue epilogue :
       {DecodeEpilogue::kStore, DecodeEpilogue::kAddResidual, DecodeEpilogue::kSiluMul}) {
    for (const int group : {32, 64, 128}) {
      for (const bool deep : {false, true}) {
        for_kernel(epilogue, group, deep,
                   [](auto* kernel) { allow_shared_bytes(kernel, kMaxShared - kStaticBytes); });
      }
    }
  }
}

void decode_linear_int4(const CudaStream& stream, DecodeEpilogue epilogue, const DecodeLinearArgs& args) {
  const int tiles = args.out_features / (epilogue == DecodeEpilogue::kSiluMul ? 8 : 16);
  const bool deep = args.group == 128 && fits_shared(args.rows, args.in_features, args.group, kDeepRing);
  const LaunchShape shape = {.grid = dim3(static_cast<unsigned>(std::min(tiles, multiprocessors()))),
                             .block = dim3(kThreads),
                             .shared_bytes = std::max(shared_bytes(args.rows, args.in_features, args.group,
                                                                   deep ? kDeepRing : kShallowRing),
                                                      kExclusiveBytes),
                             .dependent = true};
  for_kernel(epilogue, args.group, deep, [&](auto* kernel) { launch(stream.get(), shape, kernel, args); });
}

}  // namespace crible::cuda
