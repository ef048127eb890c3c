// The kernel of int4_matmul_cuda.h, and its work's arithmetic. Included by int4_matmul's .cu files only.
#pragma once

#include <cuda_fp16.h>

#include "device/cuda/bulk_copy.cuh"
#include "ops/matmul/int4_arrange_cuda.h"
#include "ops/matmul/int4_matmul_cuda.h"
#include "ops/matmul/int4_operand.cuh"
#include "ops/matmul/int4_wgmma.cuh"

namespace crible::cuda::int4_matmul_parts {

inline constexpr int kGroupWarps = 4;
inline constexpr int kWarpgroups = 4;
inline constexpr int kGroupThreads = kGroupWarps * 32;
inline constexpr int kConsumers = kWarpgroups * kGroupThreads;
// The producer is one thread of a warpgroup, as registers are handed over by warpgroups. Those of a block are
// as many as it starts with: 96 a thread, the most that 640 threads can have. Asking for more would wait
// forever.
inline constexpr int kThreads = kConsumers + kGroupThreads;
inline constexpr int kConsumerRegisters = 112;
inline constexpr int kProducerRegisters = 32;
inline constexpr int kStartRegisters = 65536 / kThreads / 8 * 8;
static_assert(kConsumers * kConsumerRegisters + kGroupThreads * kProducerRegisters <=
              kThreads * kStartRegisters);
inline constexpr int kTiles = kWarpgroups * kGroupWarps;  // of 16 rows of W: a block takes 256 rows at once
static_assert(kTiles == kInt4GroupTiles);
inline constexpr int kMaxStages = 10;

// What a block of kN rows of x needs.
template <int kN, int kGroups>
struct Plan {
  static constexpr bool kExact = kN <= 64;
  static constexpr int kWindowBytes = kInt4WindowNibbleBytes + kGroups * kInt4GroupBytes;
  static constexpr int kXBytes = kN * kInt4WindowColumns * 2;
  static constexpr int kStageBytes = (kXBytes + kTiles * kWindowBytes + 1023) / 1024 * 1024;
  static constexpr int kFitting = 204 * 1024 / kStageBytes;
  static constexpr int kStages = kFitting < kMaxStages ? kFitting : kMaxStages;
  static constexpr int kBarriersAt = kStages * kStageBytes;
  // Stages begin on 1,024 bytes, wherever the block's memory does.
  static constexpr int kSharedBytes = kBarriersAt + 2 * kStages * kBarrierBytes + 1024;
};

// Windows of a product one after the other: of a tile of 256 rows and a block of x those along K, then the
// tile's next block of x, then the next tile. Block b of the grid takes first(b) up to first(b + 1).
struct Work {
  int windows;  // of a tile
  int x_blocks;
  int64_t units;

  __host__ __device__ Work(const Int4MatmulArgs& a)
      : windows(static_cast<int>(a.weight.columns / kInt4WindowColumns)),
        x_blocks(static_cast<int>((a.rows + a.block - 1) / a.block)) {
    const int64_t tiles = (a.weight.rows / kInt4TileRows + kTiles - 1) / kTiles;
    units = tiles * x_blocks * windows;
  }
  __device__ int first(int block) const {
    return static_cast<int>(units * block / static_cast<int>(gridDim.x));
  }
  __device__ int block_of(int unit) const {
    return static_cast<int>(((static_cast<int64_t>(unit) + 1) * static_cast<int>(gridDim.x) - 1) / units);
  }
};

// Device memory where blocks meet: per block and warpgroup how many have arrived at its tile and how many are
// done with it, then two places per block for its sums of tiles that it shares.
__device__ inline int* arrived_at(const Int4Meeting& m, int block, int group) {
  return m.counters + (block * kWarpgroups + group) * 2;
}
template <int kN>
__device__ inline float4* sums_at(const Int4Meeting& m, int place, int chunk) {
  return static_cast<float4*>(m.sums) + (place * (kN / 8) + chunk) * kConsumers + threadIdx.x;
}
// 0: the tile began in an earlier block; 1: it goes on in a later one.
__device__ inline int place_of(const Work& work, int block, int tile) {
  return 2 * block + (work.first(block) > tile * work.windows ? 0 : 1);
}

__device__ inline void meet_warpgroup(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(kGroupThreads) : "memory");
}

// Where a unit lies, without a division per unit.
struct Cursor {
  int window, x_block, tile;  // tile: of 256 rows

  __device__ Cursor(const Work& work, int unit)
      : window(unit % work.windows),
        x_block(unit / work.windows % work.x_blocks),
        tile(unit / work.windows / work.x_blocks) {}
  __device__ void advance(const Work& work) {
    if (++window < work.windows) return;
    window = 0;
    if (++x_block < work.x_blocks) return;
    x_block = 0;
    ++tile;
  }
};

// By one thread.
template <int kN, int kGroups>
__device__ inline void produce(const Int4MatmulArgs& a, const Work& work, uint32_t shared) {
  using P = Plan<kN, kGroups>;
  const int begin = work.first(static_cast<int>(blockIdx.x));
  const int units = work.first(static_cast<int>(blockIdx.x) + 1) - begin;
  const int tiles = static_cast<int>(a.weight.rows / kInt4TileRows);
  // Several blocks of x read the same weights.
  const uint64_t weight_policy = work.x_blocks == 1 ? read_once_policy() : ordinary_policy();
  const uint64_t x_policy = ordinary_policy();
  const auto full = [&](int stage) { return shared + P::kBarriersAt + stage * kBarrierBytes; };
  const auto request_weights = [&](const Cursor& at, int stage) {
    const int first = at.tile * kTiles;
    const int bytes = static_cast<int>(int4_tiles_of_group(first, tiles)) * P::kWindowBytes;
    barrier_expect(full(stage), P::kXBytes + bytes);
    bulk_copy(shared + stage * P::kStageBytes + P::kXBytes,
              a.weight.tiles + int4_window_index(first, at.window, tiles, work.windows) * P::kWindowBytes,
              bytes, full(stage), weight_policy);
  };
  const auto request_x = [&](const Cursor& at, int stage) {
    const int64_t window = static_cast<int64_t>(at.x_block) * work.windows + at.window;
    bulk_copy(shared + stage * P::kStageBytes, static_cast<const uint8_t*>(a.x) + window * P::kXBytes,
              P::kXBytes, full(stage), x_policy);
  };
  // Weights do not depend on the kernel before this one: a ring of them is on its way when that ends.
  const int ahead = min(units, P::kStages);
  Cursor of_weights(work, begin);
  Cursor of_x = of_weights;
  for (int i = 0; i < ahead; ++i, of_weights.advance(work)) request_weights(of_weights, i);
  cudaGridDependencySynchronize();
  for (int i = 0; i < ahead; ++i, of_x.advance(work)) request_x(of_x, i);
  RingPlace<P::kStages> place;
  for (int i = ahead; i < units; ++i, of_x.advance(work), place.advance()) {
    barrier_wait(full(place.stage) + P::kStages * kBarrierBytes, place.lap);
    request_weights(of_x, place.stage);
    request_x(of_x, place.stage);
  }
}

// A pair of a scale in BF16: high + low is the scale to 16 bits, so that a weight is rounded once.
struct SplitScale {
  __nv_bfloat162 high, low;
  __device__ explicit SplitScale(float scale) {
    const __nv_bfloat16 h = __float2bfloat16_rn(scale);
    high = __bfloat162bfloat162(h);
    low = __bfloat162bfloat162(__float2bfloat16_rn(scale - __bfloat162float(h)));
  }
  __device__ uint32_t times(uint32_t integers) const {
    const auto& v = reinterpret_cast<const __nv_bfloat162&>(integers);
    const __nv_bfloat162 product = __hfma2(v, high, __hmul2(v, low));
    return reinterpret_cast<const uint32_t&>(product);
  }
  __device__ uint4 times(const uint4& v) const { return {times(v.x), times(v.y), times(v.z), times(v.w)}; }
};

// One window of a warpgroup's 64 rows times the block of x, added to sums; larger blocks overwrite them if
// fresh. A pair of k-steps is multiplied while the next is unpacked.
template <int kN, int kGroups>
__device__ inline void multiply_window(float (&sums)[kN / 2], bool fresh, uint32_t x, const uint8_t* window) {
  constexpr bool kExact = Plan<kN, kGroups>::kExact;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  uint4 low = *reinterpret_cast<const uint4*>(window + lane * 16);
  uint4 high = *reinterpret_cast<const uint4*>(window + kInt4WindowNibbleBytes / 2 + lane * 16);
  // The same in all lanes, which the compiler cannot see: one address, the others follow from it.
  const uint64_t operand = wgmma_operand(__shfl_sync(~0u, x, 0));
  float of_group[kExact ? kN / 2 : 1];
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    const uint8_t* about = window + kInt4WindowNibbleBytes + j * kInt4GroupBytes;
    const float2 scale = __half22float2(reinterpret_cast<const __half2*>(about)[lane / 4]);
    const uint32_t zeros = reinterpret_cast<const uint16_t*>(about + 2 * kInt4TileRows)[lane / 4];
    const Bf16Zero low_zero(zeros & 0xFFu);
    const Bf16Zero high_zero(zeros >> 8);
    const SplitScale low_scale(scale.x);
    const SplitScale high_scale(scale.y);
    if constexpr (kExact) {
#pragma unroll
      for (int e = 0; e < kN / 2; ++e) asm volatile("" : "=f"(of_group[e]));
    }
#pragma unroll
    for (int i = j * 4 / kGroups; i < (j + 1) * 4 / kGroups; ++i) {
      uint32_t low_word = word_of(low, i);
      uint32_t high_word = word_of(high, i);
      // Not unpacked before the products above are on their way.
      asm volatile("" : "+r"(low_word), "+r"(high_word));
      uint4 l = low_zero.unpack(low_word);
      uint4 h = high_zero.unpack(high_word);
      if constexpr (!kExact) {
        l = low_scale.times(l);
        h = high_scale.times(h);
      }
      const uint32_t first[4] = {l.x, h.x, l.y, h.y};
      const uint32_t second[4] = {l.z, h.z, l.w, h.w};
      const uint64_t b = operand + static_cast<uint64_t>((i / 2 * kN * 128 + i % 2 * 64) >> 4);
      wgmma_fence();
      if constexpr (kExact) {
        wgmma_from_registers<kN>(of_group, first, b, i == j * 4 / kGroups ? 0 : 1);
        wgmma_from_registers<kN>(of_group, second, b + 2, 1);
      } else {
        wgmma_from_registers<kN>(sums, first, b, i == 0 && fresh ? 0 : 1);
        wgmma_from_registers<kN>(sums, second, b + 2, 1);
      }
      wgmma_commit();
      wgmma_wait<1>();
    }
    if constexpr (kExact) {
      wgmma_wait<0>();
      wgmma_results(of_group);
#pragma unroll
      for (int e = 0; e < kN / 2; ++e) sums[e] += (e % 4 < 2 ? scale.x : scale.y) * of_group[e];
    }
  }
  if constexpr (!kExact) {
    wgmma_wait<0>();
    wgmma_results(sums);
  }
}

// Eight rows of x and the warp's tile of W: this thread has rows g = lane / 4 (elements 0, 1) and g + 8 (2,
// 3) of the tile for rows 2·(lane mod 4) and the next of x.
__device__ inline void write_chunk(const Int4MatmulArgs& a, Int4Epilogue epilogue, int tile,
                                   int64_t first_row, const float4& v) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  if (tile * int64_t{kInt4TileRows} >= a.weight.rows) return;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int64_t row = first_row + lane % 4 * 2 + j;
    if (row >= a.rows) return;
    const float low = j == 0 ? v.x : v.y;
    const float high = j == 0 ? v.z : v.w;
    __nv_bfloat16* out = a.out + row * a.out_stride;
    if (epilogue == Int4Epilogue::kSiluMul) {
      const __nv_bfloat16 value = __float2bfloat16_rn(low / (1.0f + __expf(-low)) * high);
      if (a.arranges) {
        a.out[arranged_place(row, tile * 8 + g, a.out_stride, a.block)] = value;
      } else {
        out[tile * 8 + g] = value;
      }
      continue;
    }
    __nv_bfloat16* first = out + (a.weight.paired ? tile * 8 : tile * kInt4TileRows) + g;
    __nv_bfloat16* second = first + (a.weight.paired ? a.weight.rows / 2 : 8);
    const bool adds = epilogue == Int4Epilogue::kAddResidual;
    *first = __float2bfloat16_rn(low + (adds ? __bfloat162float(*first) : 0.0f));
    *second = __float2bfloat16_rn(high + (adds ? __bfloat162float(*second) : 0.0f));
  }
}

// Where a warp's sums of a unit's tile go.
struct Target {
  int tile;  // of 16 rows
  int64_t first_row;
};
__device__ inline Target target_of(const Work& work, int unit, int block_rows) {
  const int tile = unit / work.windows;
  return {tile / work.x_blocks * kTiles + static_cast<int>(threadIdx.x) / 32,
          static_cast<int64_t>(tile % work.x_blocks) * block_rows};
}

// Adds up this block's share of a tile that it shares with others, and writes it: of the tile's chunks of
// eight rows of x every so manieth.
template <int kN>
__device__ inline void add_shared_tile(const Int4MatmulArgs& a, Int4Epilogue epilogue, const Work& work,
                                       int tile) {
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int first = work.block_of(tile * work.windows);
  const int count = work.block_of((tile + 1) * work.windows - 1) - first + 1;
  int* arrived = arrived_at(a.meeting, first, group);
  const bool leader = threadIdx.x % kGroupThreads == 0;
  if (leader) {
    int seen = 0;
    while (seen < count)
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
  }
  meet_warpgroup(group);
  const Target target = target_of(work, tile * work.windows, kN);
  const int mine = static_cast<int>(blockIdx.x) - first;
  for (int chunk = 0; chunk < kN / 8; ++chunk) {
    if ((chunk + group) % count != mine) continue;
    float4 sum = {0, 0, 0, 0};
#pragma unroll 4
    for (int b = first; b < first + count; ++b) {
      const float4 v = __ldcg(sums_at<kN>(a.meeting, place_of(work, b, tile), chunk));
      sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w};
    }
    write_chunk(a, epilogue, target.tile, target.first_row + chunk * 8, sum);
  }
  // The last to leave makes ready for the next product.
  meet_warpgroup(group);
  if (leader && atomicAdd(arrived + 1, 1) == count - 1) {
    arrived[0] = 0;
    arrived[1] = 0;
  }
}

template <int kN, int kGroups>
__device__ inline void consume(const Int4MatmulArgs& a, Int4Epilogue epilogue, const Work& work,
                               uint32_t shared, const uint8_t* memory) {
  using P = Plan<kN, kGroups>;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int block = static_cast<int>(blockIdx.x);
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int begin = work.first(block);
  const int end = work.first(block + 1);
  RingPlace<P::kStages> place;
  float sums[kN / 2];
#pragma unroll
  for (float& sum : sums) sum = 0;
  bool fresh = true;
  bool from_start = begin % work.windows == 0;
  int window = begin % work.windows;
  for (int unit = begin; unit < end; ++unit) {
    const uint32_t full = shared + P::kBarriersAt + place.stage * kBarrierBytes;
    barrier_wait(full, place.lap);
    multiply_window<kN, kGroups>(sums, fresh, shared + place.stage * P::kStageBytes,
                                 memory + place.stage * P::kStageBytes + P::kXBytes + warp * P::kWindowBytes);
    if (threadIdx.x % 32 == 0) arrive(full + P::kStages * kBarrierBytes);
    place.advance();
    fresh = ++window == work.windows;
    if (!fresh && unit + 1 < end) continue;
    const int tile = unit / work.windows;
    const bool whole = fresh && from_start;
    const Target target = target_of(work, unit, kN);
#pragma unroll
    for (int chunk = 0; chunk < kN / 8; ++chunk) {
      const float4 v = {sums[4 * chunk], sums[4 * chunk + 1], sums[4 * chunk + 2], sums[4 * chunk + 3]};
      if (whole) {
        write_chunk(a, epilogue, target.tile, target.first_row + chunk * 8, v);
      } else {
        __stcg(sums_at<kN>(a.meeting, place_of(work, block, tile), chunk), v);
      }
    }
    if (!whole) {
      // All have stored: the leader publishes for them.
      meet_warpgroup(group);
      if (threadIdx.x % kGroupThreads == 0) {
        asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(
                         arrived_at(a.meeting, work.block_of(tile * work.windows), group))
                     : "memory");
      }
    }
#pragma unroll
    for (float& sum : sums) sum = 0;
    fresh = true;
    from_start = true;
    if (window == work.windows) window = 0;
  }
  if (begin == end) return;
  const int first_tile = begin / work.windows;
  const int last_tile = (end - 1) / work.windows;
  const bool first_shared = begin % work.windows != 0;
  if (first_shared) add_shared_tile<kN>(a, epilogue, work, first_tile);
  if (end % work.windows != 0 && !(first_shared && last_tile == first_tile))
    add_shared_tile<kN>(a, epilogue, work, last_tile);
}

template <int kN, int kGroups>
__global__ void __launch_bounds__(kThreads, 1) int4_matmul_kernel(Int4MatmulArgs a, Int4Epilogue epilogue) {
  using P = Plan<kN, kGroups>;
  extern __shared__ uint8_t unaligned[];
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(unaligned));
  const uint32_t shared = (address + 1023) / 1024 * 1024;
  const uint8_t* memory = unaligned + (shared - address);
  const Work work(a);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < P::kStages; ++stage) {
      barrier_init(shared + P::kBarriersAt + stage * kBarrierBytes, 1);
      barrier_init(shared + P::kBarriersAt + (P::kStages + stage) * kBarrierBytes, kTiles);
    }
    publish_barriers();
  }
  __syncthreads();
  cudaTriggerProgrammaticLaunchCompletion();
  if (threadIdx.x >= kConsumers) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kProducerRegisters));
    if (threadIdx.x == kConsumers) produce<kN, kGroups>(a, work, shared);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kConsumerRegisters));
    cudaGridDependencySynchronize();
    consume<kN, kGroups>(a, epilogue, work, shared, memory);
  }
}

}  // namespace crible::cuda::int4_matmul_parts
