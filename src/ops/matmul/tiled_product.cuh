// out = x · Wᵀ in tiles, for Hopper: a block of three warpgroups, of which one thread of the first copies
// operands into a ring of stages in shared memory and the other two multiply them (wgmma), each 64 or 128
// rows of x by all columns of a tile. Blocks stay and take tile after tile, so that the next one's operands
// are under way while a result is written.
//
// Pairs of blocks (TileShare) halve what is read from the second-level cache. Where there are too few tiles
// for the multiprocessors, the blocks of a cluster (kSplit) each add up a part of K and then, through shared
// memory, each a part of the columns, always in the same order: results are the same run to run.
#pragma once

#include <cuda_bf16.h>

#include "device/cuda/tensor_copy.cuh"
#include "device/cuda/wgmma_wide.cuh"
#include "ops/matmul/tiled_product.h"

namespace crible::cuda {

inline constexpr int kTiledThreads = 384;
inline constexpr int kTiledStepBytes = 128;        // of a row, in a stage
inline constexpr int kTiledChunkBytes = 64 * 128;  // a warpgroup's results on their way out
inline constexpr int kTiledBand = 8;               // places along the rows that follow each other

// Sizes of one instantiation. kRowBlocks: blocks of 64 rows that a warpgroup multiplies.
template <WeightType kWeightType, TiledEpilogue kEnd, int kRowBlocks, int kTileColumns, TileShare kSharing,
          int kParts>
struct TileShape {
  static constexpr WeightType kType = kWeightType;
  static constexpr WgmmaType kWgmma = kType == WeightType::kBf16 ? WgmmaType::kBf16 : WgmmaType::kFp8;
  static constexpr int kStepElements = kTiledStepBytes / (kType == WeightType::kBf16 ? 2 : 1);
  static constexpr TiledEpilogue kEpilogue = kEnd;
  static constexpr TileShare kShare = kSharing;
  static constexpr int kSplit = kParts;
  static constexpr int kPair = kShare == TileShare::kNone ? 1 : 2;
  static constexpr int kCluster = kPair * kSplit;
  static constexpr int kBlocks = kRowBlocks;
  static constexpr int kRows = 2 * 64 * kBlocks;
  static constexpr int kColumns = kTileColumns;
  static constexpr int kOutputs = kEpilogue == TiledEpilogue::kGated ? kColumns / 2 : kColumns;
  static constexpr int kXBytes = kRows * kTiledStepBytes;
  static constexpr int kHalfWeightBytes = kColumns / 2 * kTiledStepBytes;
  static constexpr int kStageBytes = kXBytes + 2 * kHalfWeightBytes;
  static constexpr int kStagingBytes = 2 * 2 * kTiledChunkBytes;
  static constexpr int kMostBytes = 227 * 1024 - 2 * 1024;  // alignment and barriers apart
  static constexpr int kStages = (kMostBytes - kStagingBytes) / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + kStagingBytes + 2 * 1024;
  // Of the columns that a block writes after the parts of K are added up.
  static constexpr int kPartOutputs = kOutputs / kSplit;
  static constexpr int kPartRegisters = kColumns / 2 / kSplit;
  // Parts are written at once, in rows of an odd number of 16 bytes: they meet no bank twice without a
  // swizzle.
  static constexpr int kChunk = kSplit > 1                                                    ? kPartOutputs
                                : kEpilogue != TiledEpilogue::kFloat&& kPartOutputs % 64 == 0 ? 64
                                                                                              : 32;
  static_assert(kPartOutputs % kChunk == 0);
  static_assert(kSplit == 1 || (kEpilogue == TiledEpilogue::kStore && kBlocks == 1 &&
                                kPartOutputs % 16 == 8 && 64 * kPartOutputs * 2 <= 2 * kTiledChunkBytes));
  static_assert(kSplit == 1 || kRows * kColumns * 4 <= kStages * kStageBytes);
};

template <typename S>
struct Accumulators {
  float block[S::kBlocks][S::kColumns / 2];
};

// Where things lie in shared memory.
template <typename S>
struct TileMemory {
  uint32_t ring, staging, barriers;

  __device__ explicit TileMemory(const void* memory) {
    const auto start = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
    ring = (start + 1023) / 1024 * 1024;
    staging = ring + S::kStages * S::kStageBytes;
    barriers = staging + S::kStagingBytes;
  }
  __device__ uint32_t x(int stage) const { return ring + stage * S::kStageBytes; }
  __device__ uint32_t weight(int stage) const { return x(stage) + S::kXBytes; }
  __device__ uint32_t full(int stage) const { return barriers + stage * 8; }
  __device__ uint32_t empty(int stage) const { return barriers + (S::kStages + stage) * 8; }
  __device__ uint32_t parts() const {
    return barriers + 2 * S::kStages * 8;
  }  // have come from the other blocks

  __device__ void initialise() const {
    constexpr int kConsumerWarps = 8;
    for (int i = 0; i < S::kStages; ++i) {
      barrier_init(full(i), 1);
      barrier_init(empty(i), kConsumerWarps * S::kPair);
    }
    barrier_init(parts(), 1);
    publish_barriers();
  }
};

// A stage of the ring and the lap over it.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// What a block multiplies: its place among the tiles, in an order that keeps the blocks that run together
// close in both directions, and its steps of K.
template <typename S>
struct TileWork {
  int row, column;  // first row of x; first column of the tile, counted without halves

  __device__ TileWork(const TiledProductParams& p, int index) {
    const int in_band = kTiledBand * p.column_places;
    const int band = index / in_band;
    const int height = min(kTiledBand, p.row_places - band * kTiledBand);
    const int rest = index - band * in_band;
    int row_tile = band * kTiledBand + rest % height;
    int column_tile = rest / height;
    const int of_pair = static_cast<int>(cluster_rank()) % S::kPair;
    if constexpr (S::kShare == TileShare::kWeight) row_tile = row_tile * 2 + of_pair;
    if constexpr (S::kShare == TileShare::kX) column_tile = column_tile * 2 + of_pair;
    row = row_tile * S::kRows;
    column = column_tile * S::kOutputs;
  }
  __device__ static int first_place() { return static_cast<int>(blockIdx.x) / S::kCluster; }
  __device__ static int clusters() { return static_cast<int>(gridDim.x) / S::kCluster; }
  __device__ static int part() { return static_cast<int>(cluster_rank()) / S::kPair; }
  __device__ static uint16_t pair_mask() { return static_cast<uint16_t>(3 << (part() * 2)); }
  __device__ static int first_step(const TiledProductParams& p) { return p.steps * part() / S::kSplit; }
  __device__ static int end_step(const TiledProductParams& p) { return p.steps * (part() + 1) / S::kSplit; }
};

template <typename S>
__device__ inline void copy_x(const TiledProductParams& p, const TileMemory<S>& memory,
                              const TileWork<S>& work, int stage, int step) {
  const int k = step * S::kStepElements;
  if constexpr (S::kShare == TileShare::kX) {
    const int half = static_cast<int>(cluster_rank()) % 2;
    load_box_to(TileWork<S>::pair_mask(), memory.x(stage) + half * (S::kXBytes / 2), p.x, k,
                work.row + half * (S::kRows / 2), memory.full(stage));
  } else {
    load_box(memory.x(stage), p.x, k, work.row, memory.full(stage));
  }
}

template <typename S>
__device__ inline void copy_weight(const TiledProductParams& p, const TileMemory<S>& memory,
                                   const TileWork<S>& work, int stage, int step) {
  const int k = step * S::kStepElements;
  if constexpr (S::kShare == TileShare::kWeight) {
    const int half = static_cast<int>(cluster_rank()) % 2;
    load_box_to(TileWork<S>::pair_mask(), memory.weight(stage) + half * S::kHalfWeightBytes, p.weight, k,
                work.column + half * p.up_offset, memory.full(stage));
  } else {
    load_box(memory.weight(stage), p.weight, k, work.column, memory.full(stage));
    load_box(memory.weight(stage) + S::kHalfWeightBytes, p.weight, k, work.column + p.up_offset,
             memory.full(stage));
  }
}

// By one thread: operands into the ring, as it empties. The first weights, where they are settled, before the
// kernel before this one has ended; x only after.
template <typename S>
__device__ inline void copy_operands(const TiledProductParams& p, const TileMemory<S>& memory) {
  const int first = TileWork<S>::first_step(p);
  const int end = TileWork<S>::end_step(p);
  int under_way = 0;  // steps whose weights are
  if (p.settled_weight && TileWork<S>::first_place() < p.row_places * p.column_places) {
    const TileWork<S> work(p, TileWork<S>::first_place());
    for (; under_way < min(S::kStages, end - first); ++under_way) {
      barrier_expect(memory.full(under_way), S::kStageBytes);
      copy_weight(p, memory, work, under_way, first + under_way);
    }
  }
  cudaGridDependencySynchronize();
  RingPlace<S::kStages> place;
  for (int index = TileWork<S>::first_place(); index < p.row_places * p.column_places;
       index += TileWork<S>::clusters()) {
    const TileWork<S> work(p, index);
#pragma unroll 1
    for (int step = first; step < end; ++step) {
      if (under_way > 0) {
        --under_way;
      } else {
        barrier_wait(memory.empty(place.stage), place.parity ^ 1);
        barrier_expect(memory.full(place.stage), S::kStageBytes);
        copy_weight(p, memory, work, place.stage, step);
      }
      copy_x(p, memory, work, place.stage, step);
      place.advance();
    }
  }
}

// The stage may be overwritten: told to every block that copies into it, once a warp.
template <typename S>
__device__ inline void release_stage(const TileMemory<S>& memory, int stage) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (lane < S::kPair) {
    barrier_arrive(memory.empty(stage), TileWork<S>::part() * S::kPair + lane);
  }
}

// A warpgroup's sums of one tile. Two steps' products are in flight.
template <typename S>
__device__ inline void multiply_tile(const TiledProductParams& p, const TileMemory<S>& memory, int warpgroup,
                                     RingPlace<S::kStages>& place, Accumulators<S>& sums) {
  constexpr int kInstructionBytes = 32;
#pragma unroll
  for (int b = 0; b < S::kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < S::kColumns / 2; ++i) sums.block[b][i] = 0;
  }
  const int steps = TileWork<S>::end_step(p) - TileWork<S>::first_step(p);
  int last = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    barrier_wait(memory.full(place.stage), place.parity);
    const uint64_t x = wgmma_operand(memory.x(place.stage) + warpgroup * (S::kXBytes / 2));
    const uint64_t weight = wgmma_operand(memory.weight(place.stage));
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kTiledStepBytes; k += kInstructionBytes) {
#pragma unroll
      for (int b = 0; b < S::kBlocks; ++b) {
        // Operands count in units of 16 bytes.
        wgmma<S::kColumns, S::kWgmma>(sums.block[b], x + (b * 64 * kTiledStepBytes + k) / 16,
                                      weight + k / 16);
      }
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0) release_stage(memory, last);
    last = place.stage;
    place.advance();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int b = 0; b < S::kBlocks; ++b) wgmma_results(sums.block[b]);
  if (steps > 0) release_stage(memory, last);
}

// FP8: the scales of a thread's rows and columns.
template <typename S>
__device__ inline void apply_scales(const TiledProductParams& p, int row, int column, Accumulators<S>& sums) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) % 128 / 32;
#pragma unroll
  for (int b = 0; b < S::kBlocks; ++b) {
    const int low_row = row + b * 64 + warp * 16 + lane / 4;
    const float low = __ldg(p.x_scale + min(low_row, p.rows - 1));
    const float high = __ldg(p.x_scale + min(low_row + 8, p.rows - 1));
#pragma unroll
    for (int i = 0; i < S::kColumns / 8; ++i) {
      const int c = 8 * i + lane % 4 * 2;
      const int weight_row = column + c + (8 * i < S::kColumns / 2 ? 0 : p.up_offset - S::kColumns / 2);
      const float2 w =
          __ldg(reinterpret_cast<const float2*>(p.weight_scale + min(weight_row, p.weight_rows - 2)));
      float* d = sums.block[b] + 4 * i;
      d[0] *= low * w.x;
      d[1] *= low * w.y;
      d[2] *= high * w.x;
      d[3] *= high * w.y;
    }
  }
}

__device__ inline float silu_times(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

// A warpgroup's results to device memory, 64 rows by kChunk columns at a time, through two buffers in turn.
template <typename S>
class TileWriter {
 public:
  __device__ TileWriter(const TiledProductParams& p, const TileMemory<S>& memory, int warpgroup)
      : params_(p),
        buffers_(memory.staging + warpgroup * 2 * kTiledChunkBytes),
        named_barrier_(1 + warpgroup),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) % 128 / 32) {}

  // The first kCount of a thread's values: 64 rows from `row`, columns of out from `column`.
  template <int kCount, int kValues>
  __device__ void write(const float (&values)[kValues], int row, int column) {
    constexpr int kChunkValues = S::kChunk / 2;
#pragma unroll
    for (int first = 0; first < kCount; first += kChunkValues) {
      if (elected()) wait_for_stores<1>();
      synchronise();
      if constexpr (S::kEpilogue == TiledEpilogue::kFloat) {
        put_floats(values + first);
      } else {
        put_bf16(values + first);
      }
      publish_to_wgmma();  // to the copy engine, too
      synchronise();
      if (elected()) {
        const uint32_t buffer = buffers_ + turn_ * kTiledChunkBytes;
        if (params_.accumulate) {
          add_box(params_.out, column + first * 2, row, buffer);
        } else {
          store_box(params_.out, column + first * 2, row, buffer);
        }
        commit_stores();
      }
      turn_ ^= 1;
    }
  }
  __device__ void finish() const {
    if (elected()) wait_for_stores<0>();
  }

 private:
  __device__ bool elected() const {
    return static_cast<int>(threadIdx.x) % 128 == 0;
  }
  __device__ void synchronise() const {
    asm volatile("bar.sync %0, 128;" ::"r"(named_barrier_) : "memory");
  }

  // Where a lane's row of an 8 x 8 matrix lies in a chunk.
  __device__ static uint32_t place_of(int row, int sixteenth) {
    if constexpr (S::kChunk == 64) return swizzled_place(row, sixteenth);
    if constexpr (S::kChunk == 32)
      return static_cast<uint32_t>(row * 64 + ((sixteenth ^ (row / 2 % 4)) << 4));
    return static_cast<uint32_t>(row * S::kChunk * 2 + (sixteenth << 4));
  }
  // Sixteen columns at a time, four 8 x 8 matrices, whose rows' addresses eight lanes each give; then the
  // last eight.
  __device__ void put_bf16(const float* values) const {
    const int row = warp_ * 16 + lane_ / 8 % 2 * 8 + lane_ % 8;
    const uint32_t buffer = buffers_ + turn_ * kTiledChunkBytes;
#pragma unroll
    for (int g = 0; g < S::kChunk / 16; ++g) {
      const float* v = values + 8 * g;
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                       buffer + place_of(row, 2 * g + lane_ / 16)),
                   "r"(packed(v[0], v[1])), "r"(packed(v[2], v[3])), "r"(packed(v[4], v[5])),
                   "r"(packed(v[6], v[7]))
                   : "memory");
    }
    if constexpr (S::kChunk % 16 != 0) {
      const float* v = values + S::kChunk / 16 * 8;
      asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(
                       buffer + place_of(row, S::kChunk / 16 * 2)),
                   "r"(packed(v[0], v[1])), "r"(packed(v[2], v[3]))
                   : "memory");
    }
  }
  __device__ void put_floats(const float* values) const {
    const uint32_t buffer = buffers_ + turn_ * kTiledChunkBytes;
    const int row = warp_ * 16 + lane_ / 4;
#pragma unroll
    for (int g = 0; g < S::kChunk / 8; ++g) {
      const int chunk = 2 * g + lane_ % 4 / 2;
      const float* v = values + 4 * g;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(buffer + swizzled_place(row + half * 8, chunk) +
                                                              lane_ % 2 * 8),
                     "f"(v[2 * half]), "f"(v[2 * half + 1])
                     : "memory");
      }
    }
  }
  __device__ static uint32_t packed(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }

  const TiledProductParams& params_;
  uint32_t buffers_;
  int named_barrier_;
  int lane_, warp_;
  int turn_ = 0;
};

// Adds up the parts of K: every block sends each other one the columns that are its, and adds what it is
// sent, part after part, to `out`. All rings are at rest: they are where the parts lie, each thread's vectors
// 4 KB apart.
template <typename S>
__device__ inline void exchange_parts(const TileMemory<S>& memory, const Accumulators<S>& sums,
                                      float (&out)[S::kPartRegisters]) {
  constexpr int kVectors = S::kPartRegisters / 4;
  constexpr int kVectorStride = 256 * 16;
  constexpr int kPartBytes = kVectors * kVectorStride;
  const int own = TileWork<S>::part();
  const int of_pair = static_cast<int>(cluster_rank()) % S::kPair;
  const auto thread = static_cast<uint32_t>(threadIdx.x) - 128;
  if (thread == 0) barrier_expect(memory.parts(), (S::kSplit - 1) * kPartBytes);
  cluster_barrier();
  const uint32_t place = memory.ring + own * kPartBytes + thread * 16;
#pragma unroll
  for (int part = 0; part < S::kSplit; ++part) {
    const int block = part * S::kPair + of_pair;
    const uint32_t target = address_in(place, block);
    const uint32_t barrier = address_in(memory.parts(), block);
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const float* d = sums.block[0] + part * S::kPartRegisters + 4 * v;
      const float4 vector = make_float4(d[0], d[1], d[2], d[3]);
      if (part == own) {
        store_shared(place + v * kVectorStride, vector);
      } else {
        store_remote(target + v * kVectorStride, vector, barrier);
      }
    }
  }
  barrier_wait_for_cluster(memory.parts(), 0);
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    float4 total = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int part = 0; part < S::kSplit; ++part) {
      const float4 d = load_shared(memory.ring + part * kPartBytes + thread * 16 + v * kVectorStride);
      total.x += d.x;
      total.y += d.y;
      total.z += d.z;
      total.w += d.w;
    }
    out[4 * v] = total.x;
    out[4 * v + 1] = total.y;
    out[4 * v + 2] = total.z;
    out[4 * v + 3] = total.w;
  }
}

// By a warpgroup: sums of tile after tile, each written out.
template <typename S>
__device__ inline void multiply_tiles(const TiledProductParams& p, const TileMemory<S>& memory,
                                      int warpgroup) {
  RingPlace<S::kStages> place;
  TileWriter<S> writer(p, memory, warpgroup);
  Accumulators<S> sums;
  for (int index = TileWork<S>::first_place(); index < p.row_places * p.column_places;
       index += TileWork<S>::clusters()) {
    const TileWork<S> work(p, index);
    const int row = work.row + warpgroup * (S::kRows / 2);
    multiply_tile(p, memory, warpgroup, place, sums);
    if constexpr (S::kType == WeightType::kFp8) apply_scales<S>(p, row, work.column, sums);
    if constexpr (S::kSplit > 1) {
      float parts[S::kPartRegisters];
      exchange_parts<S>(memory, sums, parts);
      writer.template write<S::kPartRegisters>(parts, row,
                                               work.column + TileWork<S>::part() * S::kPartOutputs);
    } else {
#pragma unroll
      for (int b = 0; b < S::kBlocks; ++b) {
        if constexpr (S::kEpilogue == TiledEpilogue::kGated) {
#pragma unroll
          for (int i = 0; i < S::kColumns / 4; ++i)
            sums.block[b][i] = silu_times(sums.block[b][i], sums.block[b][S::kColumns / 4 + i]);
        }
        writer.template write<S::kOutputs / 2>(sums.block[b], row + b * 64, work.column);
      }
    }
  }
  writer.finish();
}

template <typename S>
__global__ void __launch_bounds__(kTiledThreads, 1)
    tiled_product_kernel(const __grid_constant__ TiledProductParams p) {
  extern __shared__ uint8_t shared_memory[];
  const TileMemory<S> memory(shared_memory);
  if (threadIdx.x == 0) memory.initialise();
  if constexpr (S::kCluster > 1) {
    cluster_barrier();
  } else {
    __syncthreads();
  }
  cudaTriggerProgrammaticLaunchCompletion();
  if (threadIdx.x < 128) {
    give_registers<40>();
    if (threadIdx.x == 0) copy_operands<S>(p, memory);
    __syncwarp();
    if constexpr (S::kSplit > 1) cluster_barrier();  // that of exchange_parts()
  } else {
    take_registers<232>();
    cudaGridDependencySynchronize();
    multiply_tiles<S>(p, memory, __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0) - 1);
  }
  // Nobody leaves while others of the cluster reach into its memory.
  if constexpr (S::kCluster > 1) cluster_barrier();
}

template <typename S>
TiledKernel tiled_kernel() {
  return {.function = &tiled_product_kernel<S>,
          .rows = S::kRows,
          .columns = S::kColumns,
          .chunk = S::kChunk,
          .share = S::kShare,
          .split = S::kSplit,
          .shared_bytes = S::kSharedBytes};
}

}  // namespace crible::cuda
