// decode_linear over 4-bit weights (int4_tiles.h). What a thread unpacks of rows g and g + 8 makes the mma's
// first operand in its usual order: eight rows of x cost as much as one. The integers less their zero point
// are exact in FP16; their sums over a group are scaled in float32.
//
// A producer warp fills a ring of stages by bulk copies, each a window of a group of sixteen tiles, one run
// of bytes; sixteen warps take a tile each and keep its sums over the block's windows: they never wait for
// each other. Groups of tiles are shared by blocks as decode_linear_shares.cuh has it.
#include "device/cuda/bulk_copy.cuh"
#include "device/cuda/launch.h"
#include "ops/decode_linear/decode_linear_int4_cuda.h"
#include "ops/decode_linear/decode_linear_parts.cuh"
#include "ops/decode_linear/decode_linear_shares.cuh"
#include "ops/matmul/int4_operand.cuh"
#include "ops/matmul/int4_tiles.h"

namespace crible::cuda {
namespace {

using namespace decode_linear_parts;

// Unpacking keeps a warp busy some four times as long as a window of the same bytes in BF16: twice the warps.
constexpr int kWarps = kInt4GroupTiles;
constexpr int kConsumers = kWarps * 32;
constexpr int kThreads = kConsumers + 32;
// Stages requested ahead: as many as x leaves room for.
constexpr int kDeepRing = 6;
constexpr int kShallowRing = 3;
static_assert(kMaxShareRows >= kInt4GroupTiles * kTileRows);

struct HalfEncoding {
  __device__ static uint4 encode(const float (&values)[kVector]) { return encode_half(values); }
};

constexpr int stage_bytes(int64_t group) {
  return kInt4GroupTiles * int4_window_bytes(group);
}
size_t shared_bytes(int rows, int64_t in_features, int64_t group, int stages) {
  return static_cast<size_t>(stages * (stage_bytes(group) + 2 * kBarrierBytes)) +
         static_cast<size_t>(rows) * static_cast<size_t>(x_row_bytes(static_cast<int>(in_features)));
}
bool fits_shared(int rows, int64_t in_features, int64_t group, int stages) {
  return shared_bytes(rows, in_features, group, stages) + kStaticBytes <= kMaxShared;
}

__device__ inline void meet_consumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory");
}

// The block's shared memory: stages, their barriers (full, then free), x.
template <int kGroups, int kStages>
struct Room {
  static constexpr int kWindowBytes = kInt4WindowNibbleBytes + kGroups * kInt4GroupBytes;
  static constexpr int kStageBytes = kInt4GroupTiles * kWindowBytes;
  static constexpr int kXAt = kStages * (kStageBytes + 2 * kBarrierBytes);
  uint32_t shared;
  __device__ uint32_t stage(int i) const { return shared + static_cast<uint32_t>(i * kStageBytes); }
  __device__ uint32_t full(int i) const {
    return shared + static_cast<uint32_t>(kStages * kStageBytes + i * kBarrierBytes);
  }
  __device__ uint32_t free(int i) const { return full(i) + kStages * kBarrierBytes; }
};

// By one thread: every window of the block's run, tile group after tile group; `ahead` of them before the
// ring has been used once.
template <int kGroups, int kStages>
struct Producer {
  using R = Room<kGroups, kStages>;
  const uint8_t* weights;
  int tiles, windows;
  uint64_t policy;
  int part, window;  // of the next request
  int left;          // requests
  RingPlace<kStages> place;

  __device__ Producer(const DecodeLinearArgs& a, const Run& run, int matrix_tiles)
      : weights(static_cast<const uint8_t*>(a.weight)),
        tiles(matrix_tiles),
        windows(run.windows),
        policy(read_once_policy()),
        part(run.begin / run.windows),
        window(run.begin % run.windows),
        left(run.end - run.begin) {}
  __device__ void request(const R& room) {
    const int first = part * kInt4GroupTiles;
    const int bytes = static_cast<int>(int4_tiles_of_group(first, tiles)) * R::kWindowBytes;
    barrier_expect(room.full(place.stage), bytes);
    bulk_copy(room.stage(place.stage),
              weights + int4_window_index(first, window, tiles, windows) * R::kWindowBytes, bytes,
              room.full(place.stage), policy);
    place.advance();
    --left;
    if (++window < windows) return;
    window = 0;
    ++part;
  }
  __device__ void fill(const R& room) {
    for (int i = 0; i < kStages && left > 0; ++i) request(room);
  }
  // What comes next into L2, up to so many bytes.
  __device__ void prefetch(int bytes) const {
    const int first = part * kInt4GroupTiles;
    const int of_window = static_cast<int>(int4_tiles_of_group(first, tiles)) * R::kWindowBytes;
    const int count = min(bytes & ~15, min(left, windows - window) * of_window);
    if (left > 0 && count > 0)
      prefetch_to_l2(weights + int4_window_index(first, window, tiles, windows) * R::kWindowBytes, count);
  }
  // The rest, as places become free.
  __device__ void run_out(const R& room) {
    while (left > 0) {
      barrier_wait(room.free(place.stage), place.lap ^ 1);  // the ring has been filled once
      request(room);
    }
  }
};

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

// This lane's outputs of a tile: rows g = lane / 4 and g + 8 (elements 0, 1 and 2, 3 of the sums) for rows
// 2·t, 2·t
// + 1 of x. For kSiluMul rows g + 8 are of the up matrix: one output for each row of x.
template <DecodeEpilogue kEpilogue>
struct Outputs {
  static constexpr bool kGated = kEpilogue == DecodeEpilogue::kSiluMul;
  Outside outside[kGated ? 1 : 2][2];

  __device__ void load(const DecodeLinearArgs& a, int tile) {
    if (tile * TileMap<kEpilogue>::kOutputs >= a.out_features) return;
#pragma unroll
    for (int half = 0; half < (kGated ? 1 : 2); ++half) {
#pragma unroll
      for (int j = 0; j < 2; ++j)
        outside[half][j] = load_outside<false, kEpilogue>(a, tile, lane_row() + half * 8, x_row(j));
    }
  }
  __device__ void write(const DecodeLinearArgs& a, int tile, const float (&sums)[4]) const {
    if (tile * TileMap<kEpilogue>::kOutputs >= a.out_features) return;
#pragma unroll
    for (int half = 0; half < (kGated ? 1 : 2); ++half) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (x_row(j) >= a.rows) continue;
        write_output<kEpilogue>(a, tile, lane_row() + half * 8, x_row(j), outside[half][j],
                                [&](int row) { return row < 8 ? sums[j] : sums[2 + j]; });
      }
    }
  }
  __device__ static int lane_row() {
    return static_cast<int>(threadIdx.x) % 32 / 4;
  }
  __device__ static int x_row(int j) {
    return static_cast<int>(threadIdx.x) % 4 * 2 + j;
  }
};

// visit(element, row of x, row of the tile) for this lane's sums within the batch.
template <typename Visit>
__device__ inline void for_sums(const DecodeLinearArgs& a, Visit&& visit) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int r = lane % 4 * 2 + e % 2;
    if (r < a.rows) visit(e, r, lane / 4 + e / 2 * 8);
  }
}

// One warp: its tile of every group of tiles in the block's run.
template <DecodeEpilogue kEpilogue, int kGroups, int kStages>
__device__ inline void consume(const DecodeLinearArgs& a, const Run& run, const Room<kGroups, kStages>& room,
                               const uint8_t* x_shared) {
  using R = Room<kGroups, kStages>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  // Column lane / 4 of the mma is that row of x; beyond the batch it is the first again, and not stored.
  const uint8_t* x =
      x_shared + (lane / 4 < a.rows ? lane / 4 : 0) * x_row_bytes(a.in_features) + lane % 4 * 16;
  RingPlace<kStages> place;
  int part = run.begin / run.windows;
  int window = run.begin % run.windows;
  for (int next = run.begin; next < run.end; ++part, window = 0) {
    const bool begins = window == 0;
    const int tile = part * kInt4GroupTiles + warp;
    const int count = min(run.windows - window, run.end - next);
    Outputs<kEpilogue> outputs;
    if (begins) outputs.load(a, tile);
    float sums[4] = {};
    const uint8_t* x_window = x + window * kInt4WindowColumns * 2;
    for (int i = 0; i < count; ++i, x_window += kInt4WindowColumns * 2) {
      barrier_wait(room.full(place.stage), place.lap);
      multiply_window<kGroups>(sums, room.stage(place.stage) + static_cast<uint32_t>(warp * R::kWindowBytes),
                               x_window);
      __syncwarp();  // all have read: the place may be overwritten
      if (lane == 0) arrive(room.free(place.stage));
      place.advance();
    }
    next += count;
    if (!begins) {
      for_sums(a, [&](int e, int r, int row) { leave_share(a, r, warp * kTileRows + row, sums[e]); });
      continue;
    }
    if (window + count < run.windows)
      for_sums(
          a, [&](int e, int r, int row) { sums[e] += take_shares(a, run, part, r, warp * kTileRows + row); });
    outputs.write(a, tile, sums);
  }
}

template <DecodeEpilogue kEpilogue, int kGroups, int kStages>
__global__ void __launch_bounds__(kThreads, 1) decode_linear_int4_kernel(DecodeLinearArgs a) {
  using R = Room<kGroups, kStages>;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float squares[kMaxDecodeRows][kWarps];
  const int tiles = a.out_features / TileMap<kEpilogue>::kOutputs;
  const Run run(a, (tiles + kInt4GroupTiles - 1) / kInt4GroupTiles, a.in_features / kInt4WindowColumns);
  const R room = {static_cast<uint32_t>(__cvta_generic_to_shared(shared))};
  uint8_t* x_shared = shared + R::kXAt;
  if (threadIdx.x >= kConsumers) {
    Producer<kGroups, kStages> producer(a, run, tiles);
    const bool works = threadIdx.x == kConsumers;
    if (works) {
      for (int stage = 0; stage < kStages; ++stage) {
        barrier_init(room.full(stage), 1);
        barrier_init(room.free(stage), kWarps);
      }
      publish_barriers();
      producer.fill(room);
      producer.prefetch(a.prefetch_bytes);
    }
    __syncthreads();
    // At once: as the next kernel's blocks find no room beside these, each starts on a multiprocessor that is
    // done.
    cudaTriggerProgrammaticLaunchCompletion();
    if (works) producer.run_out(room);
  } else {
    const NormWeights norm_weights = load_norm_weights<kWarps>(a);
    __syncthreads();
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
    stage_x<HalfEncoding, kWarps>(a, norm_weights, x_shared, squares, [] { meet_consumers(); });
    consume<kEpilogue, kGroups, kStages>(a, run, room, x_shared);
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
  constexpr int kFewestWindows = 4;  // of a block
  const int tiles = args.out_features / (epilogue == DecodeEpilogue::kSiluMul ? 8 : 16);
  const int parts = (tiles + kInt4GroupTiles - 1) / kInt4GroupTiles;
  const bool deep = args.group == 128 && fits_shared(args.rows, args.in_features, args.group, kDeepRing);
  const LaunchShape shape = {
      .grid = dim3(grid_of(args, parts, args.in_features / kInt4WindowColumns, kFewestWindows)),
      .block = dim3(kThreads),
      .shared_bytes =
          std::max(shared_bytes(args.rows, args.in_features, args.group, deep ? kDeepRing : kShallowRing),
                   kExclusiveBytes),
      .dependent = true};
  for_kernel(epilogue, args.group, deep, [&](auto* kernel) { launch(stream.get(), shape, kernel, args); });
}

}  // namespace crible::cuda
