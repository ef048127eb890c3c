#include "device/cuda/launch.h"
#include "device/cuda/tensor_copy.cuh"
#include "device/cuda/tensor_map.h"
#include "device/cuda/wgmma.cuh"
#include "ops/attention/prompt_attention_cuda.h"
#include "ops/attention/wgmma_rows.cuh"
#include "ops/bf16_vector.cuh"

namespace crible::cuda {
namespace {

constexpr int kBlockTokens = 16;
constexpr int kRows = kPromptTileRows;
constexpr int kKeys = kPromptTileKeys;
constexpr int kStages = 2;
constexpr int kGroupThreads = 128;  // of a warpgroup
constexpr int kThreads = 3 * kGroupThreads;
constexpr int kConsumerWarps = 8;
constexpr float kLog2e = 1.44269504f;

// Shared memory: a tile is one or two halves of 64 columns, each in rows of 128 bytes (wgmma.cuh).
template <int kHeadSize>
struct Sizes {
  static constexpr int kHalves = kHeadSize / 64;
  static constexpr int kHalfBytes = kKeys * 128;
  static constexpr int kTileBytes = kHalves * kHalfBytes;
  static constexpr int kKeyStages = kTileBytes;  // behind the queries
  static constexpr int kValueStages = kKeyStages + kStages * kTileBytes;
  static constexpr int kBarriers = kValueStages + kStages * kTileBytes;
  static constexpr int kSharedBytes =
      kBarriers + 4 * kStages * 8 + 1024;              // and to begin at a multiple of 1,024
  static constexpr int kChunks = kHeadSize / kVector;  // 16-byte pieces of a row
  static constexpr int kSums = kHeadSize / 2;          // a thread's share of the results
};

struct Maps {
  CUtensorMap keys, values;
};

// The ring's barriers: a stage is full when its copies are there, empty when all consumers are done with it.
struct Barriers {
  uint32_t base;
  __device__ uint32_t full_keys(int stage) const { return base + stage * 8; }
  __device__ uint32_t full_values(int stage) const { return base + (kStages + stage) * 8; }
  __device__ uint32_t empty_keys(int stage) const { return base + (2 * kStages + stage) * 8; }
  __device__ uint32_t empty_values(int stage) const { return base + (3 * kStages + stage) * 8; }
};

// A place in the ring, and the parity of its lap.
struct RingPlace {
  int stage = 0;
  uint32_t lap = 0;
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      lap ^= 1;
    }
  }
};

__device__ inline void group_barrier(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(kGroupThreads) : "memory");
}

// Powers of 2, those below the normal numbers as 0.
__device__ inline float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Keys by one warp, values by another: lanes 0 to 7, a block of the cache each.
template <int kHeadSize>
__device__ void produce(const PromptAttentionArgs& a, const CUtensorMap& map, uint32_t stages, uint32_t full,
                        uint32_t empty) {
  using S = Sizes<kHeadSize>;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int rows_of_block = static_cast<int>(a.cache.block_stride / kHeadSize);
  RingPlace place;
  for (int u = a.plan.start[blockIdx.x]; u < a.plan.start[blockIdx.x + 1]; ++u) {
    const PromptUnit unit = a.plan.units[u];
    const int blocks = (unit.context + kBlockTokens - 1) / kBlockTokens;
    for (int tile = unit.key_begin; tile < unit.key_end; ++tile, place.advance()) {
      const int block = tile * (kKeys / kBlockTokens) + lane;
      // Beyond the matrix, so that zeros arrive, where the sequence has no block.
      const int row =
          block < blocks ? a.kv_blocks[unit.first_block + block] * rows_of_block + unit.kv_head * kBlockTokens
                         : -kBlockTokens;
      barrier_wait(empty + place.stage * 8, place.lap ^ 1);
      if (lane == 0) barrier_expect(full + place.stage * 8, S::kTileBytes);
      __syncwarp(0xFF);
      const uint32_t to = stages + place.stage * S::kTileBytes + lane * kBlockTokens * 128;
#pragma unroll
      for (int half = 0; half < S::kHalves; ++half)
        load_box(to + half * S::kHalfBytes, map, half * 64, row, full + place.stage * 8);
    }
  }
}

// What one warpgroup knows of a unit's 64 rows. A thread has two of them: `row` and the one eight further.
template <int kHeadSize>
struct Consumer {
  using S = Sizes<kHeadSize>;
  const PromptAttentionArgs& a;
  uint32_t shared;
  Barriers barriers;
  int group;  // of the two
  int thread;
  int heads_of_kv;
  float scale;
  RingPlace key_place, value_place;

  float scores[64];  // [64 rows, 128 keys]
  float sums[S::kSums];
  uint32_t weights[32];
  float maximum[2], total[2];
  int visible[2];  // keys that the rows see

  __device__ int row() const { return thread / 32 * 16 + thread % 32 / 4; }
  __device__ int row_of_tile(int i) const { return group * 64 + row() + 8 * i; }

  __device__ void load_queries(const PromptUnit& unit) {
    constexpr int kPieces = 64 * S::kChunks / kGroupThreads;
    constexpr int kRowStep = kGroupThreads / S::kChunks;
    const int rows = unit.queries * heads_of_kv;
    const int first = thread / S::kChunks;
    const int chunk = thread % S::kChunks;
    // All requests leave before the first answer is stored.
    uint4 pieces[kPieces];
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int packed = unit.tile * kRows + group * 64 + first + i * kRowStep;
      pieces[i] = {};
      if (packed >= rows) continue;
      const int query = packed / heads_of_kv;
      const int head = unit.kv_head * heads_of_kv + packed % heads_of_kv;
      pieces[i] = *reinterpret_cast<const uint4*>(a.q + (unit.first_query + query) * a.q_stride +
                                                  head * kHeadSize + chunk * kVector);
    }
    group_barrier(group);  // the unit before is done with them
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const uint32_t to = shared + chunk / 8 * S::kHalfBytes + group * 64 * 128 +
                          swizzled_place(first + i * kRowStep, chunk % 8);
      asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(pieces[i].x), "r"(pieces[i].y),
                   "r"(pieces[i].z), "r"(pieces[i].w)
                   : "memory");
    }
    publish_to_wgmma();
    group_barrier(group);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = min((unit.tile * kRows + row_of_tile(i)) / heads_of_kv, unit.queries - 1);
      visible[i] = unit.context - unit.queries + query + 1;
      maximum[i] = -INFINITY;
      total[i] = 0;
    }
#pragma unroll
    for (float& v : sums) v = 0;
  }
  // The two warpgroups enqueue their products in turn, so that one's softmax meets the other's products.
  __device__ void await_turn() {
    asm volatile("bar.sync %0, %1;" ::"r"(group + 3), "n"(2 * kGroupThreads) : "memory");
  }
  __device__ void give_turn() {
    asm volatile("bar.arrive %0, %1;" ::"r"(4 - group), "n"(2 * kGroupThreads) : "memory");
  }
  // Enqueues scores = queries · keys.
  __device__ void multiply_keys() {
    barrier_wait(barriers.full_keys(key_place.stage), key_place.lap);
#pragma unroll
    for (float& v : scores) v = 0;
    const uint32_t queries = shared + group * 64 * 128;
    const uint32_t keys = shared + S::kKeyStages + key_place.stage * S::kTileBytes;
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kHeadSize / 16; ++step) {
      const int offset = step / 4 * S::kHalfBytes + step % 4 * 32;
      wgmma<kKeys, WgmmaType::kBf16>(scores, wgmma_operand(queries + offset), wgmma_operand(keys + offset));
    }
    wgmma_commit();
  }
  __device__ void release_keys() {
    if (thread % 32 == 0) barrier_arrive(barriers.empty_keys(key_place.stage), 0);
    key_place.advance();
  }
  // Enqueues sums += weights · values. Rows from `present` on may hold anything, and 0 · NaN is not 0.
  __device__ void multiply_values(int present) {
    barrier_wait(barriers.full_values(value_place.stage), value_place.lap);
    const uint32_t values = shared + S::kValueStages + value_place.stage * S::kTileBytes;
    if (present < kKeys) clear_rows(values, present);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      const uint32_t(&w)[4] = *reinterpret_cast<const uint32_t(*)[4]>(&weights[4 * step]);
      wgmma_rows<kHeadSize>(sums, w, wgmma_row_operand(values + step * 16 * 128, S::kHalfBytes));
    }
    wgmma_commit();
  }
  __device__ void release_values() {
    if (thread % 32 == 0) barrier_arrive(barriers.empty_values(value_place.stage), 0);
    value_place.advance();
  }
  // Of the sequence's last block; both warpgroups write the same zeros.
  __device__ void clear_rows(uint32_t values, int present) {
    const int rows = (kBlockTokens - present % kBlockTokens) % kBlockTokens;
    for (int i = thread; i < rows * S::kChunks; i += kGroupThreads) {
      const int chunk = i % S::kChunks;
      const uint32_t to =
          values + chunk / 8 * S::kHalfBytes + swizzled_place(present + i / S::kChunks, chunk % 8);
      asm volatile("st.shared.v4.u32 [%0], {%1,%1,%1,%1};" ::"r"(to), "r"(0) : "memory");
    }
    publish_to_wgmma();
    group_barrier(group);
  }
  // Scores of the tile become weights, unpacked, in place. Returns what the sums so far must be multiplied
  // by.
  __device__ void soften(int tile, float (&factor)[2]) {
    wgmma_results(scores);
    const int first = tile * kKeys;
    if (first + kKeys > min(visible[0], visible[1])) {
      const int column = first + thread % 4 * 2;
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        if (column + i / 4 * 8 + i % 2 >= visible[i / 2 % 2]) scores[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = maximum[r];
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4) largest = fmaxf(largest, fmaxf(scores[i], scores[i + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      // A row may see none of the keys of a part.
      const float base = largest == -INFINITY ? 0.0f : largest * scale;
      factor[r] = power_of_2(maximum[r] * scale - base);
      maximum[r] = largest;
      float sum = 0;
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          scores[i + j] = power_of_2(fmaf(scores[i + j], scale, -base));
          sum += scores[i + j];
        }
      }
      total[r] = total[r] * factor[r] + sum;
    }
  }
  __device__ void pack_weights() {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(scores[2 * i], scores[2 * i + 1]);
      weights[i] = *reinterpret_cast<const uint32_t*>(&pair);
    }
  }
  __device__ void compute(const PromptUnit& unit) {
    float factor[2];
    await_turn();
    multiply_keys();
    give_turn();
    wgmma_wait<0>();
    release_keys();
    soften(unit.key_begin, factor);
    pack_weights();
    for (int tile = unit.key_begin + 1; tile < unit.key_end; ++tile) {
      await_turn();
      multiply_keys();
      multiply_values(kKeys);
      give_turn();
      wgmma_wait<1>();
      release_keys();
      soften(tile, factor);
      // Beside the product with the values: left to itself, the assembler moves all of it behind the wait.
      // What a branch hangs on it computes before; totals are never negative.
      while (__any_sync(~0u, total[0] + total[1] < 0.0f)) total[0] = total[1] = 0;
      wgmma_wait<0>();
      wgmma_results(sums);
      release_values();
      // Most tiles hold no larger score than those before.
      if (__any_sync(~0u, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
        for (int i = 0; i < S::kSums; ++i) sums[i] *= factor[i / 2 % 2];
      }
      pack_weights();
    }
    multiply_values(min(kKeys, unit.context - (unit.key_end - 1) * kKeys));
    wgmma_wait<0>();
    wgmma_results(sums);
    release_values();
#pragma unroll
    for (float& t : total) {
      t += __shfl_xor_sync(~0u, t, 1);
      t += __shfl_xor_sync(~0u, t, 2);
    }
  }
  __device__ void store(const PromptUnit& unit) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int packed = unit.tile * kRows + row_of_tile(r);
      if (packed >= unit.queries * heads_of_kv) continue;
      const int head = unit.kv_head * heads_of_kv + packed % heads_of_kv;
      __nv_bfloat16* to = a.out +
                          ((unit.first_query + packed / heads_of_kv) * a.shape.heads + head) * kHeadSize +
                          thread % 4 * 2;
      const float factor = 1.0f / total[r];
#pragma unroll
      for (int i = 2 * r; i < S::kSums; i += 4) {
        *reinterpret_cast<__nv_bfloat162*>(to + i / 4 * 8) =
            __floats2bfloat162_rn(sums[i] * factor, sums[i + 1] * factor);
      }
    }
  }
  // A part: [rows][head_size] not divided, then maxima (of the scaled scores, for powers of 2) and totals.
  __device__ void store_part(int part) const {
    float* base = a.partial + static_cast<int64_t>(part) * kRows * (kHeadSize + 2);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float* to = base + row_of_tile(r) * kHeadSize + thread % 4 * 2;
#pragma unroll
      for (int i = 2 * r; i < S::kSums; i += 4)
        *reinterpret_cast<float2*>(to + i / 4 * 8) = make_float2(sums[i], sums[i + 1]);
      if (thread % 4 == 0) {
        base[kRows * kHeadSize + row_of_tile(r)] = maximum[r] * scale;
        base[kRows * (kHeadSize + 1) + row_of_tile(r)] = total[r];
      }
    }
  }
};

template <int kHeadSize>
__global__ void __launch_bounds__(kThreads, 1)
    prompt_attention_kernel(const PromptAttentionArgs a, const __grid_constant__ Maps maps) {
  using S = Sizes<kHeadSize>;
  extern __shared__ uint8_t raw[];
  const uint32_t shared = (static_cast<uint32_t>(__cvta_generic_to_shared(raw)) + 1023) & ~1023u;
  const Barriers barriers = {shared + S::kBarriers};
  cudaTriggerProgrammaticLaunchCompletion();
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(barriers.full_keys(s), 1);
      barrier_init(barriers.full_values(s), 1);
      barrier_init(barriers.empty_keys(s), kConsumerWarps);
      barrier_init(barriers.empty_values(s), kConsumerWarps);
    }
    publish_barriers();
  }
  __syncthreads();
  cudaGridDependencySynchronize();
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  if (group == 2) {
    give_registers<24>();
    const int thread = static_cast<int>(threadIdx.x) - 2 * kGroupThreads;
    if (thread < 8) {
      produce<kHeadSize>(a, maps.keys, shared + S::kKeyStages, barriers.full_keys(0), barriers.empty_keys(0));
    } else if (thread >= 32 && thread < 40) {
      produce<kHeadSize>(a, maps.values, shared + S::kValueStages, barriers.full_values(0),
                         barriers.empty_values(0));
    }
    return;
  }
  take_registers<240>();
  const int heads_of_kv = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  Consumer<kHeadSize> consumer = {.a = a,
                                  .shared = shared,
                                  .barriers = barriers,
                                  .group = group,
                                  .thread = static_cast<int>(threadIdx.x) % kGroupThreads,
                                  .heads_of_kv = heads_of_kv,
                                  .scale = a.shape.scale * a.cache.k_scale * kLog2e};
  if (group == 1) consumer.give_turn();
  for (int u = a.plan.start[blockIdx.x]; u < a.plan.start[blockIdx.x + 1]; ++u) {
    const PromptUnit unit = a.plan.units[u];
    consumer.load_queries(unit);
    consumer.compute(unit);
    if (unit.part < 0) {
      consumer.store(unit);
    } else {
      consumer.store_part(unit.part);
    }
  }
}

constexpr int kMergeWarps = 8;

// A warp takes a row of a tile that was cut.
template <int kHeadSize>
__global__ void __launch_bounds__(kMergeWarps * 32) merge_kernel(const PromptAttentionArgs a) {
  constexpr int kShare = kHeadSize / 32;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const PromptMerge merge = a.plan.merged[blockIdx.y];
  const int heads_of_kv = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  const int row = static_cast<int>(blockIdx.x) * kMergeWarps + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int packed = merge.tile * kRows + row;
  if (packed >= merge.queries * heads_of_kv) return;
  const auto part_at = [&](int p) {
    return a.partial + static_cast<int64_t>(merge.first_part + p) * kRows * (kHeadSize + 2);
  };
  float largest = -INFINITY;
  for (int p = lane; p < merge.parts; p += 32) largest = fmaxf(largest, part_at(p)[kRows * kHeadSize + row]);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, offset));
  float sum = 0;
  float values[kShare] = {};
#pragma unroll 4
  for (int p = 0; p < merge.parts; ++p) {
    const float* part = part_at(p);
    const float weight = exp2f(part[kRows * kHeadSize + row] - largest);
    sum += weight * part[kRows * (kHeadSize + 1) + row];
    float own[kShare];
    if constexpr (kShare == 4) {
      *reinterpret_cast<float4*>(own) =
          *reinterpret_cast<const float4*>(part + row * kHeadSize + lane * kShare);
    } else {
      *reinterpret_cast<float2*>(own) =
          *reinterpret_cast<const float2*>(part + row * kHeadSize + lane * kShare);
    }
#pragma unroll
    for (int i = 0; i < kShare; ++i) values[i] += weight * own[i];
  }
  const int head = merge.kv_head * heads_of_kv + packed % heads_of_kv;
  __nv_bfloat16* to =
      a.out + ((merge.first_query + packed / heads_of_kv) * a.shape.heads + head) * kHeadSize + lane * kShare;
#pragma unroll
  for (int i = 0; i < kShare; i += 2) {
    *reinterpret_cast<__nv_bfloat162*>(to + i) = __floats2bfloat162_rn(values[i] / sum, values[i + 1] / sum);
  }
}

template <int kHeadSize>
void enqueue(const CudaStream& stream, const PromptAttentionArgs& args) {
  const auto map_of = [&](const void* side) {
    return make_tensor_map(side,
                           {.type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                            .rows = INT32_MAX,  // the pool's end is not known here, and nobody passes it
                            .columns = kHeadSize,
                            .stride_bytes = kHeadSize * 2,
                            .box_rows = kBlockTokens,
                            .box_columns = 64});
  };
  const Maps maps = {map_of(args.cache.k), map_of(args.cache.v)};
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(args.plan.blocks)),
          .block = dim3(kThreads),
          .shared_bytes = static_cast<size_t>(Sizes<kHeadSize>::kSharedBytes),
          .dependent = true},
         &prompt_attention_kernel<kHeadSize>, args, maps);
  if (args.plan.merges == 0) return;
  launch(stream.get(),
         {.grid = dim3(kRows / kMergeWarps, static_cast<unsigned>(args.plan.merges)),
          .block = dim3(kMergeWarps * 32),
          .dependent = true},
         &merge_kernel<kHeadSize>, args);
}

}  // namespace

bool prompt_attention_fits(const AttentionShape& shape) {
  return (shape.head_size == 64 || shape.head_size == 128) && shape.block_size == kBlockTokens &&
         shape.heads % shape.kv_heads == 0;
}

int prompt_attention_blocks() {
  int device = 0, multiprocessors = 0;
  CRIBLE_CUDA_CHECK(cudaGetDevice(&device));
  CRIBLE_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  return multiprocessors;
}

int64_t prompt_partial_bytes(const AttentionShape& shape, int blocks) {
  return int64_t{2} * blocks * kRows * (shape.head_size + 2) * static_cast<int64_t>(sizeof(float));
}

void prepare_prompt_attention() {
  allow_shared_bytes(&prompt_attention_kernel<64>, static_cast<size_t>(Sizes<64>::kSharedBytes));
  allow_shared_bytes(&prompt_attention_kernel<128>, static_cast<size_t>(Sizes<128>::kSharedBytes));
}

void prompt_attention(const CudaStream& stream, const PromptAttentionArgs& args) {
  CHECK(prompt_attention_fits(args.shape) && args.cache.type == KvType::kBf16, "head size {}, blocks of {}",
        args.shape.head_size, args.shape.block_size);
  if (args.shape.head_size == 64) {
    enqueue<64>(stream, args);
  } else {
    enqueue<128>(stream, args);
  }
}

}  // namespace crible::cuda
