#include "device/cuda/launch.h"
#include "ops/attention/kv_element.cuh"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/decode_attention/decode_page.cuh"
#include "ops/rope/rope_rotate.cuh"

namespace crible::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kMaxGroup = 8;
constexpr int kMaxCluster = 16;
constexpr float kLog2e = 1.44269504f;

// exp2(a - b) where a may be minus infinity (nothing seen).
__device__ inline float weight_of(float a, float b) {
  return a == -INFINITY ? 0.0f : exp2f(a - b);
}

template <int kHeadSize, KvType kType>
struct Shared {
  static constexpr int kStride =
      kHeadSize + 2;  // of a head's values: two words spread the lanes over the banks
  alignas(16) __nv_bfloat16 q[kMaxGroup * kHeadSize];
  alignas(16) typename KvElement<kType>::Type k_new[kHeadSize];
  alignas(16) typename KvElement<kType>::Type v_new[kHeadSize];
  // The warps' shares.
  float maximum[kWarps][kMaxGroup];
  float sum[kWarps][kMaxGroup];
  alignas(8) float values[kWarps][kMaxGroup * kStride];
  // What the blocks of the cluster send to this one: their sums of its share of the elements, not yet
  // divided, and the maximum and total that go with them. The barrier counts the bytes.
  float2 sent_totals[kMaxCluster][kMaxGroup];
  float2 sent_values[kMaxGroup * kHeadSize / 2];  // [blocks, share]
  alignas(8) uint64_t arrived;
};

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
// All blocks of the cluster must have begun before one writes into another's memory: known long before it is
// needed. Orders nothing that is written: that would cost a fence of the whole GPU.
__device__ inline void announce_block() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ inline void await_blocks() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
// To the same place in another block's shared memory; counted by its barrier (PTX ISA: st.async). A kernel
// without clusters must not do so: the instruction is illegal there.
__device__ inline void send(float2* place, uint32_t barrier, int block, float2 v) {
  if (gridDim.x == 1) {
    *place = v;
    return;
  }
  asm volatile(
      "{.reg .b32 place, barrier; mapa.shared::cluster.u32 place, %0, %2; mapa.shared::cluster.u32 barrier, "
      "%1, %2; "
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [place], {%3, %4}, [barrier];}" ::
          "r"(shared_address(place)),
      "r"(barrier), "r"(block), "f"(v.x), "f"(v.y)
      : "memory");
}
// By one thread; another block may send before it expects.
__device__ inline void expect_bytes(uint32_t barrier, int bytes) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], 1; fence.mbarrier_init.release.cluster; "
      "{.reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;}" ::"r"(barrier),
      "r"(bytes)
      : "memory");
}
__device__ inline void await_bytes(uint32_t barrier) {
  if (gridDim.x == 1) {
    __syncthreads();
    return;
  }
  uint32_t there = 0;
  while (there == 0) {
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, "
        "0, p;}"
        : "=r"(there)
        : "r"(barrier)
        : "memory");
  }
}

// What a thread does to one head of the new token. A group of kHeadSize / 8 lanes has a head, eight elements
// a lane; all that does not come from the product before is loaded before the wait for it.
template <int kHeadSize, KvType kType>
struct NewHead {
  using Element = KvElement<kType>;
  static constexpr int kLanes = kHeadSize / kVector;
  enum class Role { kQuery, kKey, kValue, kNone };
  Role role;
  int index;  // among the group's query heads
  int lane;
  int64_t slot = -1;
  bool normed = false;
  Bf16Vector norm;
  RopeTurns<kHeadSize> turns;

  __device__ void load(const DecodeAttentionArgs& a, int row, int position) {
    const int own_heads = static_cast<int>(a.shape.heads / a.shape.kv_heads);
    index = static_cast<int>(threadIdx.x) / kLanes;
    lane = static_cast<int>(threadIdx.x) % kLanes;
    role = index < own_heads        ? Role::kQuery
           : index == own_heads     ? Role::kKey
           : index == own_heads + 1 ? Role::kValue
                                    : Role::kNone;
    const __nv_bfloat16* weight = role == Role::kQuery ? a.q_norm : a.k_norm;
    normed = weight != nullptr;
    if (normed) norm = load_vector(weight + lane * kVector);
    turns.load(a.rope, position, lane);
    slot = a.slots[row];
  }
  // To shared memory, and the new key and value from the owner to the cache. Whole warps take part.
  __device__ void make(const DecodeAttentionArgs& a, int row, int kv_head, bool owner,
                       Shared<kHeadSize, kType>& shared) const {
    const int heads = static_cast<int>(a.shape.heads);
    const int kv_heads = static_cast<int>(a.shape.kv_heads);
    const bool is_q = role == Role::kQuery;
    const bool is_v = role == Role::kValue;
    const int head = is_q ? kv_head * (heads / kv_heads) + index : heads + (is_v ? kv_heads : 0) + kv_head;
    const Bf16Vector raw = load_vector(
        a.qkv + (static_cast<int64_t>(row) * (heads + 2 * kv_heads) + head) * kHeadSize + lane * kVector);
    float x[kVector];
    to_floats(raw, x);
    if (normed) head_norm<kHeadSize>(x, norm, a.epsilon);
    turns.apply(x, lane, a.rope.interleaved);
    if (is_q) store_vector(shared.q + index * kHeadSize + lane * kVector, to_vector(x));
    if (role != Role::kKey && !is_v) return;
    if (is_v) to_floats(raw, x);
    const auto stored = Element::encode(x, is_v ? a.cache.v_scale : a.cache.k_scale);
    store_vector((is_v ? shared.v_new : shared.k_new) + lane * kVector, stored);
    if (!owner || slot < 0) return;
    const int64_t offset = slot / kPageTokens * a.cache.block_stride +
                           (kv_head * kPageTokens + slot % kPageTokens) * kHeadSize + lane * kVector;
    store_vector(static_cast<typename Element::Type*>(is_v ? a.cache.v : a.cache.k) + offset, stored);
  }
};

template <int kHeadSize, KvType kType>
__device__ void leave(const WarpSoftmax<kHeadSize, kType>& state, int group,
                      Shared<kHeadSize, kType>& shared) {
  constexpr int kStride = Shared<kHeadSize, kType>::kStride;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  float sum = state.sum;
  sum += __shfl_xor_sync(~0u, sum, 1);
  sum += __shfl_xor_sync(~0u, sum, 2);
  if (t == 0) {
    shared.maximum[warp][g] = state.maximum;
    shared.sum[warp][g] = sum;
  }
#pragma unroll
  for (int j = 0; j < PageSizes<kHeadSize, kType>::kTiles; ++j) {
    const float(&v)[4] = state.values[j];
    float* even = shared.values[warp] + 2 * t * kStride + state.element(j);
    if (2 * t < group) *reinterpret_cast<float2*>(even) = make_float2(v[0], v[2]);
    if (2 * t + 1 < group) *reinterpret_cast<float2*>(even + kStride) = make_float2(v[1], v[3]);
  }
}

// Merges the warps' shares and sends each block of the cluster its share of the elements.
template <int kHeadSize, KvType kType>
__device__ void merge_warps(int elements, Shared<kHeadSize, kType>& shared) {
  const int blocks = static_cast<int>(gridDim.x);
  const int rank = static_cast<int>(blockIdx.x);
  const int share = elements / blocks;
  const uint32_t barrier = shared_address(&shared.arrived);
  for (int i = static_cast<int>(threadIdx.x) * 2; i < elements; i += kThreads * 2) {
    const int h = i / kHeadSize;
    const int d = i % kHeadSize;
    float largest = -INFINITY;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, shared.maximum[w][h]);
    float sum = 0;
    float2 value = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = weight_of(shared.maximum[w][h], largest);
      const float2 part =
          *reinterpret_cast<const float2*>(shared.values[w] + h * Shared<kHeadSize, kType>::kStride + d);
      sum += weight * shared.sum[w][h];
      value.x += weight * part.x;
      value.y += weight * part.y;
    }
    send(shared.sent_values + (rank * share + i % share) / 2, barrier, i / share, value);
    // The head's first threads tell one block each of the maximum and the total.
    if (d / 2 < blocks) send(&shared.sent_totals[rank][h], barrier, d / 2, make_float2(largest, sum));
  }
}

// Merges what the cluster sent, and writes this block's share of the elements times scale.
template <int kHeadSize, KvType kType>
__device__ void merge_cluster(const Shared<kHeadSize, kType>& shared, int elements, float scale,
                              __nv_bfloat16* out) {
  const int blocks = static_cast<int>(gridDim.x);
  const int share = elements / blocks;
  const int begin = static_cast<int>(blockIdx.x) * share;
  for (int i = static_cast<int>(threadIdx.x) * 2; i < share; i += kThreads * 2) {
    const int h = (begin + i) / kHeadSize;
    float2 totals[kMaxCluster];
    float largest = -INFINITY;
#pragma unroll
    for (int b = 0; b < kMaxCluster; ++b) {
      totals[b] = b < blocks ? shared.sent_totals[b][h] : make_float2(-INFINITY, 0);
      largest = fmaxf(largest, totals[b].x);
    }
    float sum = 0;
    float2 value = {};
#pragma unroll
    for (int b = 0; b < kMaxCluster; ++b) {
      if (b >= blocks) break;
      const float weight = weight_of(totals[b].x, largest);
      const float2 part = shared.sent_values[(b * share + i) / 2];
      sum += weight * totals[b].y;
      value.x += weight * part.x;
      value.y += weight * part.y;
    }
    const float factor = scale / sum;
    *reinterpret_cast<__nv_bfloat162*>(out + begin + i) =
        __floats2bfloat162_rn(value.x * factor, value.y * factor);
  }
}

template <int kHeadSize, KvType kType>
__global__ void __launch_bounds__(kThreads, 1) decode_attention_kernel(DecodeAttentionArgs a) {
  constexpr int kBytes = PageElement<kType>::kBytes;
  __shared__ Shared<kHeadSize, kType> shared;
  const int part = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  cudaTriggerProgrammaticLaunchCompletion();
  const int group = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  const int elements = group * kHeadSize;
  const uint32_t barrier = shared_address(&shared.arrived);
  if (threadIdx.x == 0) {
    expect_bytes(barrier, elements * static_cast<int>(sizeof(float)) +
                              static_cast<int>(gridDim.x) * group * static_cast<int>(sizeof(float2)));
  }
  __syncwarp();
  announce_block();

  const int position = a.context_length[row] - 1;  // of the new token; those before it are in the cache
  const int pages = position / kPageTokens + 1;
  const int step = static_cast<int>(gridDim.x) * kWarps;
  int page = part * kWarps + static_cast<int>(threadIdx.x) / 32;
  const int32_t* listed = a.kv_blocks + a.kv_start[row];
  const auto* k = static_cast<const uint8_t*>(a.cache.k) + kv_head * (kPageTokens * kHeadSize * kBytes);
  const auto* v = static_cast<const uint8_t*>(a.cache.v) + kv_head * (kPageTokens * kHeadSize * kBytes);
  const int64_t stride = a.cache.block_stride * kBytes;
  Page<kHeadSize, kType> held;
  if (page < pages) {
    const int64_t offset = listed[page] * stride;
    held.load_keys(k + offset);
    held.load_values(v + offset);
  }
  int next = page + step < pages ? listed[page + step] : 0;
  NewHead<kHeadSize, kType> head;
  head.load(a, row, position);

  cudaGridDependencySynchronize();
  head.make(a, row, kv_head, part + 1 == static_cast<int>(gridDim.x), shared);
  __syncthreads();
  PageQuery<kHeadSize, kType> q;
  q.load(shared.q, group);
  const float scale = a.shape.scale * a.cache.k_scale * kLog2e;
  WarpSoftmax<kHeadSize, kType> state;
  while (page < pages) {
    int present = kPageTokens;
    if (page + 1 == pages) {
      present = position % kPageTokens + 1;
      held.clear_values_from(present);
      held.insert(position % kPageTokens, reinterpret_cast<const uint8_t*>(shared.k_new),
                  reinterpret_cast<const uint8_t*>(shared.v_new));
    }
    page += step;
    const int64_t offset = next * stride;
    float scores[2][2];
    held.score(q, scores);
    if (page < pages) held.load_keys(k + offset);
    state.add(held, scores, scale, present);
    if (page < pages) held.load_values(v + offset);
    next = page + step < pages ? listed[page + step] : 0;
  }
  leave(state, group, shared);
  __syncthreads();
  await_blocks();
  merge_warps(elements, shared);
  await_bytes(barrier);
  merge_cluster(shared, elements, a.cache.v_scale,
                a.out + (static_cast<int64_t>(row) * a.shape.kv_heads + kv_head) * elements);
}

template <typename Visit>
void for_kernel(int64_t head_size, KvType type, Visit&& visit) {
  if (head_size == 64) {
    if (type == KvType::kBf16) return visit(&decode_attention_kernel<64, KvType::kBf16>);
    return visit(&decode_attention_kernel<64, KvType::kFp8>);
  }
  if (type == KvType::kBf16) return visit(&decode_attention_kernel<128, KvType::kBf16>);
  visit(&decode_attention_kernel<128, KvType::kFp8>);
}

}  // namespace

bool decode_attention_fits(const AttentionShape& shape) {
  return (shape.head_size == 64 || shape.head_size == 128) && shape.block_size == kPageTokens &&
         shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= kMaxGroup;
}

void prepare_decode_attention() {
  for (const int64_t head_size : {64, 128}) {
    for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
      for_kernel(head_size, type, [](auto* kernel) {
        CRIBLE_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                               cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
      });
    }
  }
}

void decode_attention(const CudaStream& stream, const DecodeAttentionArgs& args, int cluster) {
  CHECK(decode_attention_fits(args.shape), "head size {}, {} heads over {}", args.shape.head_size,
        args.shape.heads, args.shape.kv_heads);
  if (cluster == 0) {
    // As many blocks as there are multiprocessors, about: the matmuls on either side leave room for one each.
    constexpr int64_t kBlocks = 128;
    cluster = kMaxCluster;
    while (cluster > 1 && cluster * args.shape.kv_heads * args.rows > kBlocks) cluster /= 2;
  }
  CHECK(cluster >= 1 && cluster <= kMaxCluster && (cluster & (cluster - 1)) == 0, "a cluster of {}", cluster);
  for_kernel(args.shape.head_size, args.cache.type, [&](auto* kernel) {
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(cluster), static_cast<unsigned>(args.shape.kv_heads),
                         static_cast<unsigned>(args.rows)),
            .block = dim3(kThreads),
            .cluster = static_cast<unsigned>(cluster),
            .dependent = true},
           kernel, args);
  });
}

}  // namespace crible::cuda
