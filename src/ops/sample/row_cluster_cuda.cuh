// One row of logits spread over the shared memory of a cluster of blocks, and what the blocks do together:
// sums, maxima and a short list of tokens. Every function is called by all threads of the cluster; results
// are the same in all of them unless said otherwise. Included by .cu files.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

#include "ops/exponential_cuda.cuh"
#include "ops/sample/sample_cuda.h"

namespace crible::cuda {

inline constexpr int kClusterBlocks = 8;
inline constexpr int kRowThreads = 512;
inline constexpr int kRowWarps = kRowThreads / 32;
inline constexpr int kMostSums = 14;
inline constexpr int kListed = kRowThreads;  // tokens of a list, one a thread
// Of a row, for one thread: four at a time.
inline constexpr int kFours = 4 * kClusterBlocks * kRowThreads;
inline constexpr int kMostPerThread = 4 * ((kMaxVocabulary + kFours - 1) / kFours);
// Weight 1 as fixed point: kMaxVocabulary tokens sum to less than 2⁶².
inline constexpr int kOneBits = 43;
inline constexpr float kOne = 0x1p43f;

// Bits that order as the floats do; the two zeros are one.
__device__ inline uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
  return bits ^ (bits >> 31 != 0 ? 0xFFFFFFFFu : 0x80000000u);
}
__device__ inline float value_of(uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 != 0 ? 0x80000000u : 0xFFFFFFFFu));
}
// A total order of tokens: larger keys first (that is, of larger rank), then lower ids.
__device__ inline uint64_t rank_of(uint32_t key, int id) {
  return uint64_t{key} << 32 | ~static_cast<uint32_t>(id);
}
__device__ inline int id_of(uint64_t rank) {
  return static_cast<int>(~static_cast<uint32_t>(rank));
}
// Below the rank of every finite logit, above that of every impossible one.
inline constexpr uint64_t kAnyFinite = uint64_t{0x00800000} << 32;
// In place of the largest rank of a row that holds NaN or +infinity.
inline constexpr uint64_t kFault = ~uint64_t{0};

struct ListedToken {
  uint64_t rank;
  uint64_t measure;
};

// What a block shares besides its part of the row. Two sets of block_sums in turn: a block may be one
// exchange ahead of another that still reads.
struct RowExchange {
  uint64_t warp_sums[kRowWarps][kMostSums];
  uint64_t block_sums[2][kClusterBlocks][kMostSums];
  uint64_t sums[kMostSums];
  ListedToken gathered[kListed];  // by this block
  ListedToken list[kListed];      // of the whole cluster; the first block's alone
  int gathered_count;
  int gathered_first;  // place of this block's in the list
  int listed;          // the first block's alone
  uint64_t answer;
};

struct Row {
  RowExchange* exchange;
  float* values;  // this block's part; those behind the vocabulary's end are minus infinity
  int begin;      // id of the first
  int size;       // a multiple of 4
  int block;      // of the cluster
  int turn;       // which block_sums
  float maximum;  // of the whole row
  float temperature;
  float inverse_temperature;
  float reach;  // below the maximum; what is further down weighs nothing

  // Beyond 2^±100 the nearest of the two is taken: no sum or quotient overflows then.
  __device__ void set_temperature(float value) {
    temperature = fminf(fmaxf(value, 0x1p-100f), 0x1p100f);
    inverse_temperature = __frcp_rn(temperature);
    reach = 32.0f * temperature;  // e⁻³² is less than half of the fixed point's unit
  }
  // (logit - maximum) / temperature, rounded as a division is, without its branches: a quotient within two
  // units in the last place, then corrected twice by its exact remainder (Markstein 1990). For finite logits.
  __device__ float scaled(float logit) const {
    const float distance = logit - maximum;
    float quotient = __fmul_rn(distance, inverse_temperature);
    quotient = __fmaf_rn(__fmaf_rn(-quotient, temperature, distance), inverse_temperature, quotient);
    return __fmaf_rn(__fmaf_rn(-quotient, temperature, distance), inverse_temperature, quotient);
  }
  __device__ uint64_t weight(float logit) const {
    const float value = __fmul_rn(exponential_in_range(scaled(logit)), kOne);
    return __float2ull_rn(logit - maximum >= -reach ? value : 0.0f);
  }
};

// visit(four logits, place of the first in values) for this block's part of the row; a thread sees the same
// places every time.
template <typename Visit>
__device__ void for_each_four(const Row& row, Visit visit) {
#pragma unroll 1
  for (int at = 4 * static_cast<int>(threadIdx.x); at < row.size; at += 4 * kRowThreads) {
    const float4 v = *reinterpret_cast<const float4*>(row.values + at);
    const float logits[4] = {v.x, v.y, v.z, v.w};
    visit(logits, at);
  }
}
template <typename Visit>
__device__ void for_each(const Row& row, Visit visit) {
  for_each_four(row, [&](const float(&logits)[4], int at) {
#pragma unroll
    for (int j = 0; j < 4; ++j) visit(logits[j], at + j);
  });
}

__device__ inline uint64_t warp_sum(uint64_t value) {
  constexpr uint32_t kPart = 0xFFFFFF;
  const uint64_t low = __reduce_add_sync(~0u, static_cast<uint32_t>(value) & kPart);
  const uint64_t middle = __reduce_add_sync(~0u, static_cast<uint32_t>(value >> 24) & kPart);
  const uint64_t high = __reduce_add_sync(~0u, static_cast<uint32_t>(value >> 48));
  return low + (middle << 24) + (high << 48);
}
__device__ inline uint64_t warp_sum(uint32_t value) {
  return __reduce_add_sync(~0u, value);
}

template <int kMasses, int kCounts>
struct RowSums {
  uint64_t mass[kMasses] = {};
  uint32_t count[kCounts] = {};
};

// Replaces each thread's sums by those over all threads.
template <int kMasses, int kCounts>
__device__ void add_over_cluster(Row& row, RowSums<kMasses, kCounts>& sums) {
  constexpr int kSums = kMasses + kCounts;
  static_assert(kSums <= kMostSums && kSums * kClusterBlocks <= kRowThreads);
  RowExchange& exchange = *row.exchange;
  const int thread = static_cast<int>(threadIdx.x);
  uint64_t* of_warp = exchange.warp_sums[thread / 32];
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const uint64_t sum = i < kMasses ? warp_sum(sums.mass[i]) : warp_sum(sums.count[i - kMasses]);
    if (thread % 32 == 0) of_warp[i] = sum;
  }
  __syncthreads();
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  if (thread < kSums * kClusterBlocks) {
    const int i = thread % kSums;
    uint64_t sum = 0;
    for (int w = 0; w < kRowWarps; ++w) sum += exchange.warp_sums[w][i];
    *cluster.map_shared_rank(&exchange.block_sums[row.turn][row.block][i], thread / kSums) = sum;
  }
  cluster.sync();
  if (thread < kSums) {
    uint64_t sum = 0;
    for (int b = 0; b < kClusterBlocks; ++b) sum += exchange.block_sums[row.turn][b][thread];
    exchange.sums[thread] = sum;
  }
  row.turn ^= 1;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    if (i < kMasses) {
      sums.mass[i] = exchange.sums[i];
    } else {
      sums.count[i - kMasses] = static_cast<uint32_t>(exchange.sums[i]);
    }
  }
}

__device__ inline uint64_t max_over_cluster(Row& row, uint64_t value) {
  RowExchange& exchange = *row.exchange;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = max(value, __shfl_xor_sync(~0u, value, offset));
  if (thread % 32 == 0) exchange.warp_sums[thread / 32][0] = value;
  __syncthreads();
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  if (thread < kClusterBlocks) {
    for (int w = 0; w < kRowWarps; ++w) value = max(value, exchange.warp_sums[w][0]);
    *cluster.map_shared_rank(&exchange.block_sums[row.turn][row.block][0], thread) = value;
  }
  cluster.sync();
  value = exchange.block_sums[row.turn][0][0];
  for (int b = 1; b < kClusterBlocks; ++b) value = max(value, exchange.block_sums[row.turn][b][0]);
  row.turn ^= 1;
  return value;
}

// One thread of the cluster that is_owner gives everyone its value.
__device__ inline uint64_t from_owner(const Row& row, bool is_owner, uint64_t value) {
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  if (is_owner) {
    for (int b = 0; b < kClusterBlocks; ++b) *cluster.map_shared_rank(&row.exchange->answer, b) = value;
  }
  cluster.sync();
  return row.exchange->answer;
}

// Collects at most kListed tokens into the first block's list: pick(logit, id, &token) says whether one
// belongs there. Returns their number in the first block; the others must not use it.
template <typename Pick>
__device__ int gather(const Row& row, Pick pick) {
  RowExchange& exchange = *row.exchange;
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  for_each(row, [&](float logit, int at) {
    ListedToken token;
    if (pick(logit, row.begin + at, token)) exchange.gathered[atomicAdd(&exchange.gathered_count, 1)] = token;
  });
  __syncthreads();
  const int count = exchange.gathered_count;
  if (threadIdx.x == 0 && count > 0) {
    exchange.gathered_first = atomicAdd(cluster.map_shared_rank(&exchange.listed, 0), count);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowThreads) {
    cluster.map_shared_rank(exchange.list, 0)[exchange.gathered_first + i] = exchange.gathered[i];
  }
  if (threadIdx.x == 0) exchange.gathered_count = 0;
  cluster.sync();
  const int listed = exchange.listed;
  __syncthreads();
  if (threadIdx.x == 0) exchange.listed = 0;
  return listed;
}

// Within the first block: this thread's token of the list by descending rank; rank 0 behind its end. A
// bitonic network, through registers where partners are of one warp.
__device__ inline ListedToken sorted_token(RowExchange& exchange, int listed) {
  const int thread = static_cast<int>(threadIdx.x);
  ListedToken mine = thread < listed ? exchange.list[thread] : ListedToken{0, 0};
  int length = 2;
  while (length < listed) length *= 2;
  for (int run = 2; run <= length; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      ListedToken other;
      if (distance < 32) {
        other.rank = __shfl_xor_sync(~0u, mine.rank, distance);
        other.measure = __shfl_xor_sync(~0u, mine.measure, distance);
      } else {
        __syncthreads();
        exchange.list[thread] = mine;
        __syncthreads();
        other = exchange.list[thread ^ distance];
      }
      const bool descending = (thread & run) == 0;
      const bool first = (thread & distance) == 0;
      if (first == descending ? other.rank > mine.rank : other.rank < mine.rank) mine = other;
    }
  }
  return mine;
}

// Within one block: this thread's value plus those of the threads before it.
__device__ inline uint64_t running_sum(RowExchange& exchange, uint64_t value) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, value, offset);
    if (lane >= offset) value += other;
  }
  if (lane == 31) exchange.warp_sums[warp][0] = value;
  __syncthreads();
  for (int w = 0; w < warp; ++w) value += exchange.warp_sums[w][0];
  return value;
}

}  // namespace crible::cuda
