#include <cooperative_groups.h>

#include "device/cuda/launch.h"
#include "ops/attention/kv_element.cuh"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/rope/rope_rotate.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileTokens = 64;
constexpr int kStages = 2;
constexpr int kBlockTokens = 16;
constexpr int kMaxCluster = 16;
constexpr float kLog2e = 1.44269504f;

__device__ inline void copy_async(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(global)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
__device__ inline void wait_for_all_but_one_copy() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
}

// Sizes of one instantiation. A group of kLanes lanes holds one token's head, eight elements a lane.
template <int kHeadSize, int kHeads, KvType kType>
struct Sizes {
  static constexpr int kLanes = kHeadSize / kVector;
  static constexpr int kGroups = kThreads / kLanes;
  static constexpr int kGroupTokens = kTileTokens / kGroups;  // of a tile
  static constexpr int kStageElements = 2 * kTileTokens * kHeadSize;
  static constexpr int kMergeFloats = kGroups * kHeads * (kHeadSize + 2);
  static constexpr int kStageBytes = kStages * kStageElements * static_cast<int>(kv_element_bytes(kType));
  static constexpr int kMergeBytes = kMergeFloats * 4;
  static constexpr int kSharedBytes = kStageBytes > kMergeBytes ? kStageBytes : kMergeBytes;
};

// What the blocks of a cluster send to each of them: their share of the elements, not yet divided by the
// sums, and the maximum and sum that go with them.
template <int kHeadSize, int kHeads>
struct Inbox {
  float maximum[kMaxCluster][kHeads];
  float sum[kMaxCluster][kHeads];
  float values[kHeads * kHeadSize + kMaxCluster];  // [blocks, share]
};

// exp2(a - b) where a may be minus infinity (nothing seen) and b then too.
__device__ inline float weight_of(float a, float b) {
  return a == -INFINITY ? 0.0f : exp2f(a - b);
}

// A running softmax over tokens, of kHeads query heads, for this lane's eight elements of the values.
template <int kHeads>
struct RunningSoftmax {
  float maximum[kHeads];
  float sum[kHeads];
  float values[kHeads][kVector];

  __device__ RunningSoftmax() {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      maximum[h] = -INFINITY;
      sum[h] = 0;
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[h][j] = 0;
    }
  }
  // One score per head for each of kTokens tokens (minus infinity: not there), with their values.
  template <int kTokens, typename Vector>
  __device__ void add(const float (&scores)[kTokens][kHeads], const Vector (&v)[kTokens]) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float largest = maximum[h];
#pragma unroll
      for (int i = 0; i < kTokens; ++i) largest = fmaxf(largest, scores[i][h]);
      const float factor = weight_of(maximum[h], largest);
      maximum[h] = largest;
      sum[h] *= factor;
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[h][j] *= factor;
    }
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
      float value[kVector];
      to_floats(v[i], value);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float p = weight_of(scores[i][h], maximum[h]);
        sum[h] += p;
#pragma unroll
        for (int j = 0; j < kVector; ++j) values[h][j] += p * value[j];
      }
    }
  }
};

template <int kHeads, typename Vector>
__device__ inline void dot(const float (&q)[kHeads][kVector], const Vector& k, float (&scores)[kHeads]) {
  float key[kVector];
  to_floats(k, key);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    scores[h] = 0;
#pragma unroll
    for (int j = 0; j < kVector; ++j) scores[h] += q[h][j] * key[j];
  }
}

// Where the block's tokens are, and the asynchronous copy of one tile of them.
template <int kHeadSize, KvType kType>
struct CacheReader {
  using Element = typename KvElement<kType>::Type;
  const DecodeAttentionArgs& a;
  const int32_t* blocks;  // of this sequence
  int kv_head;
  int begin, end;  // this block's tokens

  __device__ void request(int tile, Element* stage) const {
    constexpr int kChunk = 16 / sizeof(Element);  // elements of a copy
    constexpr int kLanes = kHeadSize / kChunk;
    const int first = begin + tile * kTileTokens;
    for (int i = static_cast<int>(threadIdx.x); i < kTileTokens * kLanes; i += kThreads) {
      const int token = first + i / kLanes;
      if (token >= end) break;
      const int64_t offset = blocks[token / kBlockTokens] * a.cache.block_stride +
                             (kv_head * kBlockTokens + token % kBlockTokens) * kHeadSize +
                             i % kLanes * kChunk;
      copy_async(stage + i * kChunk, static_cast<const Element*>(a.cache.k) + offset);
      copy_async(stage + kTileTokens * kHeadSize + i * kChunk,
                 static_cast<const Element*>(a.cache.v) + offset);
    }
  }
};

// After the wait: the query heads, normed, rotated and scaled, to q_shared; the new key and value to
// k_new and v_new (and, from the owning block, to the cache). A group of lanes per head.
template <int kHeadSize, int kHeads, KvType kType>
__device__ void prepare_heads(const DecodeAttentionArgs& a, int row, int kv_head, bool owner, int position,
                              float (*q_shared)[kHeadSize], typename KvElement<kType>::Type* k_new,
                              typename KvElement<kType>::Type* v_new) {
  using Element = KvElement<kType>;
  using S = Sizes<kHeadSize, kHeads, kType>;
  const int group = static_cast<int>(threadIdx.x) / S::kLanes;
  const int lane = static_cast<int>(threadIdx.x) % S::kLanes;
  const int heads = static_cast<int>(a.shape.heads);
  const int kv_heads = static_cast<int>(a.shape.kv_heads);
  const int own_heads = heads / kv_heads;
  const bool is_q = group < own_heads;
  const bool is_k = group == kHeads;
  const bool is_v = group == kHeads + 1;
  const int head = is_q ? kv_head * own_heads + group : heads + (is_v ? kv_heads : 0) + kv_head;
  const __nv_bfloat16* source =
      a.qkv + (static_cast<int64_t>(row) * (heads + 2 * kv_heads) + head) * kHeadSize + lane * kVector;
  const Bf16Vector raw = load_vector(source);
  float x[kVector];
  to_floats(raw, x);
  head_norm<kHeadSize>(x, lane, is_q ? a.q_norm : a.k_norm, a.epsilon);
  rotate<kHeadSize>(x, lane, a.rope, position);
  if (group < kHeads) {
    // The score's exponential is taken to the base 2. Heads that the instantiation has too many are zero.
    const float scale = is_q ? a.shape.scale * a.cache.k_scale * kLog2e : 0.0f;
    const Bf16Vector rounded = to_vector(x);  // as the paged kernels see q
    to_floats(rounded, x);
#pragma unroll
    for (int j = 0; j < kVector; ++j) q_shared[group][lane * kVector + j] = x[j] * scale;
  }
  if (!is_k && !is_v) return;
  if (is_v) to_floats(raw, x);
  const auto stored = Element::encode(x, is_v ? a.cache.v_scale : a.cache.k_scale);
  store_vector((is_v ? v_new : k_new) + lane * kVector, stored);
  const int64_t slot = a.slots[row];
  if (!owner || slot < 0) return;
  const int64_t offset = slot / kBlockTokens * a.cache.block_stride +
                         (kv_head * kBlockTokens + slot % kBlockTokens) * kHeadSize + lane * kVector;
  store_vector(static_cast<typename Element::Type*>(is_v ? a.cache.v : a.cache.k) + offset, stored);
}

// Merges the groups' softmaxes of a block into one and sends each block of the cluster its share.
// merge: kMergeFloats, free for use.
template <int kHeadSize, int kHeads, KvType kType>
__device__ void merge_groups(const RunningSoftmax<kHeads>& own, int elements, float* merge,
                             Inbox<kHeadSize, kHeads>* inbox) {
  using S = Sizes<kHeadSize, kHeads, kType>;
  const int group = static_cast<int>(threadIdx.x) / S::kLanes;
  const int lane = static_cast<int>(threadIdx.x) % S::kLanes;
  float* maxima = merge;                       // [groups, heads]
  float* sums = merge + S::kGroups * kHeads;   // [groups, heads]
  float* values = sums + S::kGroups * kHeads;  // [groups, heads, head_size]
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    if (lane == 0) {
      maxima[group * kHeads + h] = own.maximum[h];
      sums[group * kHeads + h] = own.sum[h];
    }
#pragma unroll
    for (int j = 0; j < kVector; j += 4) {
      *reinterpret_cast<float4*>(values + (group * kHeads + h) * kHeadSize + lane * kVector + j) =
          make_float4(own.values[h][j], own.values[h][j + 1], own.values[h][j + 2], own.values[h][j + 3]);
    }
  }
  __syncthreads();
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int rank = static_cast<int>(cluster.block_rank());
  const int share = (elements + blocks - 1) / blocks;
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += kThreads) {
    const int h = i / kHeadSize;
    float largest = -INFINITY;
#pragma unroll
    for (int g = 0; g < S::kGroups; ++g) largest = fmaxf(largest, maxima[g * kHeads + h]);
    float sum = 0;
    float value = 0;
#pragma unroll
    for (int g = 0; g < S::kGroups; ++g) {
      const float weight = weight_of(maxima[g * kHeads + h], largest);
      sum += weight * sums[g * kHeads + h];
      value += weight * values[g * kHeads * kHeadSize + i];
    }
    cluster.map_shared_rank(inbox, i / share)->values[rank * share + i % share] = value;
    // The head's first threads tell one block each of the maximum and the sum.
    if (i % kHeadSize < blocks) {
      Inbox<kHeadSize, kHeads>* other = cluster.map_shared_rank(inbox, i % kHeadSize);
      other->maximum[rank][h] = largest;
      other->sum[rank][h] = sum;
    }
  }
}

// Merges what the cluster sent, and writes this block's share of the elements times scale.
template <int kHeadSize, int kHeads>
__device__ void merge_cluster(const Inbox<kHeadSize, kHeads>& inbox, int elements, float scale,
                              __nv_bfloat16* out) {
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int share = (elements + blocks - 1) / blocks;
  const int begin = static_cast<int>(cluster.block_rank()) * share;
  for (int i = static_cast<int>(threadIdx.x); i < min(share, elements - begin); i += kThreads) {
    const int h = (begin + i) / kHeadSize;
    float largest = -INFINITY;
    for (int b = 0; b < blocks; ++b) largest = fmaxf(largest, inbox.maximum[b][h]);
    float sum = 0;
    float value = 0;
    for (int b = 0; b < blocks; ++b) {
      const float weight = weight_of(inbox.maximum[b][h], largest);
      sum += weight * inbox.sum[b][h];
      value += weight * inbox.values[b * share + i];
    }
    out[begin + i] = __float2bfloat16_rn(value / sum * scale);
  }
}

// One tile of keys, with their values behind them, of which the first `present` tokens are there: the group's
// share.
template <int kHeadSize, int kHeads, KvType kType>
__device__ inline void attend_tile(RunningSoftmax<kHeads>& softmax, const float (&q)[kHeads][kVector],
                                   const typename KvElement<kType>::Type* keys, int group, int present) {
  using S = Sizes<kHeadSize, kHeads, kType>;
  float scores[S::kGroupTokens][kHeads];
  typename KvElement<kType>::Vector v[S::kGroupTokens];
#pragma unroll
  for (int i = 0; i < S::kGroupTokens; ++i) {
    const int token = group + i * S::kGroups;
    dot<kHeads>(q, load_vector(keys + token * kHeadSize), scores[i]);
    v[i] = load_vector(keys + (kTileTokens + token) * kHeadSize);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float score = lane_sum<S::kLanes>(scores[i][h]);
      scores[i][h] = token < present ? score : -INFINITY;
    }
    // What lies there from before may be anything, and 0 · NaN is not 0.
    if (token >= present) v[i] = KvElement<kType>::zero();
  }
  softmax.add(scores, v);
}

template <int kHeadSize, int kHeads, KvType kType>
__global__ void __launch_bounds__(kThreads, kHeads <= 4 ? 2 : 1)
    decode_attention_kernel(DecodeAttentionArgs a) {
  using S = Sizes<kHeadSize, kHeads, kType>;
  using Element = typename KvElement<kType>::Type;
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ float q_shared[kHeads][kHeadSize];
  __shared__ alignas(16) Element k_new[kHeadSize];
  __shared__ alignas(16) Element v_new[kHeadSize];
  __shared__ Inbox<kHeadSize, kHeads> inbox;
  cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int part = static_cast<int>(blockIdx.x);
  const int parts = static_cast<int>(gridDim.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  cudaTriggerProgrammaticLaunchCompletion();
  // All blocks of the cluster must have begun before one writes into another's memory: known long before it
  // is needed.
  auto begun = cluster.barrier_arrive();

  const int position = a.context_length[row] - 1;  // of the new token; those before it are in the cache
  const int stretch = (position + parts - 1) / parts;
  const int begin = min(position, part * stretch);
  const int end = min(position, begin + stretch);
  const CacheReader<kHeadSize, kType> reader = {a, a.kv_blocks + a.kv_start[row], kv_head, begin, end};
  const int tiles = (end - begin + kTileTokens - 1) / kTileTokens;
  auto* stages = reinterpret_cast<Element*>(shared);
#pragma unroll
  for (int s = 0; s < kStages; ++s) {
    if (s < tiles) reader.request(s, stages + s * S::kStageElements);
    commit_copies();
  }

  cudaGridDependencySynchronize();
  const bool owner = part == parts - 1;
  prepare_heads<kHeadSize, kHeads, kType>(a, row, kv_head, owner, position, q_shared, k_new, v_new);
  __syncthreads();
  const int group = static_cast<int>(threadIdx.x) / S::kLanes;
  const int lane = static_cast<int>(threadIdx.x) % S::kLanes;
  float q[kHeads][kVector];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) q[h][j] = q_shared[h][lane * kVector + j];
  }

  RunningSoftmax<kHeads> softmax;
  for (int tile = 0; tile < tiles; ++tile) {
    wait_for_all_but_one_copy();
    __syncthreads();
    const Element* keys = stages + tile % kStages * S::kStageElements + lane * kVector;
    attend_tile<kHeadSize, kHeads, kType>(softmax, q, keys, group, end - begin - tile * kTileTokens);
    __syncthreads();
    if (tile + kStages < tiles) reader.request(tile + kStages, stages + tile % kStages * S::kStageElements);
    commit_copies();
  }
  float newest[1][kHeads];
  dot<kHeads>(q, load_vector(k_new + lane * kVector), newest[0]);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float score = lane_sum<S::kLanes>(newest[0][h]);
    newest[0][h] = owner && group == 0 ? score : -INFINITY;
  }
  const typename KvElement<kType>::Vector newest_value[1] = {load_vector(v_new + lane * kVector)};
  softmax.add(newest, newest_value);
  __syncthreads();
  cluster.barrier_wait(std::move(begun));
  const int elements = static_cast<int>(a.shape.heads / a.shape.kv_heads) * kHeadSize;
  merge_groups<kHeadSize, kHeads, kType>(softmax, elements, reinterpret_cast<float*>(shared), &inbox);
  cluster.sync();
  merge_cluster<kHeadSize, kHeads>(
      inbox, elements, a.cache.v_scale,
      a.out + (static_cast<int64_t>(row) * a.shape.kv_heads + kv_head) * elements);
}

template <typename Visit>
void for_kernel(int64_t head_size, int64_t group, KvType type, Visit&& visit) {
  const auto with_heads = [&](auto size, auto heads) {
    constexpr int kHeadSize = decltype(size)::value;
    constexpr int kHeads = decltype(heads)::value;
    if (type == KvType::kBf16) {
      visit(&decode_attention_kernel<kHeadSize, kHeads, KvType::kBf16>,
            Sizes<kHeadSize, kHeads, KvType::kBf16>::kSharedBytes);
    } else {
      visit(&decode_attention_kernel<kHeadSize, kHeads, KvType::kFp8>,
            Sizes<kHeadSize, kHeads, KvType::kFp8>::kSharedBytes);
    }
  };
  const auto with_size = [&](auto size) {
    if (group <= 2) return with_heads(size, std::integral_constant<int, 2>());
    if (group <= 4) return with_heads(size, std::integral_constant<int, 4>());
    return with_heads(size, std::integral_constant<int, 8>());
  };
  if (head_size == 64) return with_size(std::integral_constant<int, 64>());
  with_size(std::integral_constant<int, 128>());
}

}  // namespace

bool decode_attention_fits(const AttentionShape& shape) {
  return (shape.head_size == 64 || shape.head_size == 128) && shape.block_size == kBlockTokens &&
         shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= 8;
}

void prepare_decode_attention() {
  const auto prepare = [](auto* kernel, int shared) {
    allow_shared_bytes(kernel, static_cast<size_t>(shared));
    CRIBLE_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                           cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  };
  for (const int64_t head_size : {64, 128}) {
    for (const int64_t group : {2, 4, 8}) {
      for (const KvType type : {KvType::kBf16, KvType::kFp8}) for_kernel(head_size, group, type, prepare);
    }
  }
}

void decode_attention(const CudaStream& stream, const DecodeAttentionArgs& args, int cluster) {
  CHECK(decode_attention_fits(args.shape), "head size {}, {} heads over {}", args.shape.head_size,
        args.shape.heads, args.shape.kv_heads);
  if (cluster == 0) {
    // As many blocks as there are multiprocessors, about: the matmuls on either side leave room for one each.
    constexpr int64_t kBlocks = 128;
    // With many query heads to a key head the merge costs more than the other half of the blocks gain: 19
    // against 12 microseconds for eight at a context of 1,024.
    constexpr int64_t kManyHeads = 8;
    cluster = args.shape.heads >= kManyHeads * args.shape.kv_heads ? kMaxCluster / 2 : kMaxCluster;
    while (cluster > 1 && cluster * args.shape.kv_heads * args.rows > kBlocks) cluster /= 2;
  }
  CHECK(cluster >= 1 && cluster <= kMaxCluster, "a cluster of {}", cluster);
  const auto enqueue = [&](auto* kernel, int shared) {
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(cluster), static_cast<unsigned>(args.shape.kv_heads),
                         static_cast<unsigned>(args.rows)),
            .block = dim3(kThreads),
            .shared_bytes = static_cast<size_t>(shared),
            .cluster = static_cast<unsigned>(cluster),
            .dependent = true},
           kernel, args);
  };
  for_kernel(args.shape.head_size, args.shape.heads / args.shape.kv_heads, args.cache.type, enqueue);
}

}  // namespace crible::cuda
