#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/decode_attention/fp8_decode_attention_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kBlockTokens = 16;
constexpr int kHeads = 8;  // columns of an mma
constexpr int kMaxCluster = 8;
constexpr float kLog2e = 1.44269504f;

// Two E4M3 values as FP16, exactly.
__device__ inline uint32_t widen(uint32_t two) {
  uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(two)));
  return halves;
}
__device__ inline void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline uint32_t to_halves(float low, float high) {
  constexpr float kLargest = 65504.0f;
  const __half2 pair =
      __floats2half2_rn(fminf(fmaxf(low, -kLargest), kLargest), fminf(fmaxf(high, -kLargest), kLargest));
  return *reinterpret_cast<const uint32_t*>(&pair);
}
// exp2(a - b) where a may be minus infinity (nothing seen) and b then too.
__device__ inline float weight_of(float a, float b) {
  return a == -INFINITY ? 0.0f : exp2f(a - b);
}

// Lane l = 4·g + t of a warp.
template <int kHeadSize>
struct Sizes {
  static constexpr int kSteps = kHeadSize / 16;       // of an mma along a key
  static constexpr int kKeyWords = kHeadSize / 16;    // 4-byte words of a key in a lane
  static constexpr int kValueWords = kHeadSize / 32;  // of a value
  static constexpr int kTiles = kHeadSize / 16;       // mmas along a value
  static constexpr int kShare = kHeadSize / 8;        // elements of a value in a lane
};

// A block of the cache in a warp's registers: keys of the tokens g and g + 8, of which the lane has the
// 16-byte chunks t, t + 4, ...; values of the tokens 2t, 2t + 1, 2t + 8 and 2t + 9, of which it has the g-th
// eighth.
template <int kHeadSize>
struct Page {
  using S = Sizes<kHeadSize>;
  uint32_t keys[2][S::kKeyWords];
  uint32_t values[4][S::kValueWords];

  __device__ static const uint8_t* place(const Fp8DecodeAttentionArgs& a, const void* side, int kv_head,
                                         int block) {
    return static_cast<const uint8_t*>(side) + block * a.cache.block_stride +
           kv_head * (kBlockTokens * kHeadSize);
  }
  __device__ void load_keys(const Fp8DecodeAttentionArgs& a, int kv_head, int block) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const uint8_t* k = place(a, a.cache.k, kv_head, block);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int c = 0; c < S::kKeyWords / 4; ++c) {
        const uint4 raw = *reinterpret_cast<const uint4*>(k + (g + 8 * i) * kHeadSize + (t + 4 * c) * 16);
        keys[i][4 * c] = raw.x;
        keys[i][4 * c + 1] = raw.y;
        keys[i][4 * c + 2] = raw.z;
        keys[i][4 * c + 3] = raw.w;
      }
    }
  }
  __device__ void load_values(const Fp8DecodeAttentionArgs& a, int kv_head, int block) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const uint8_t* v = place(a, a.cache.v, kv_head, block);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint8_t* from = v + (2 * t + i % 2 + i / 2 * 8) * kHeadSize + g * (kHeadSize / 8);
      if constexpr (S::kValueWords == 4) {
        const uint4 raw = *reinterpret_cast<const uint4*>(from);
        values[i][0] = raw.x;
        values[i][1] = raw.y;
        values[i][2] = raw.z;
        values[i][3] = raw.w;
      } else {
        const uint2 raw = *reinterpret_cast<const uint2*>(from);
        values[i][0] = raw.x;
        values[i][1] = raw.y;
      }
    }
  }
  // What lies there from before may be anything, and 0 · NaN is not 0.
  __device__ void clear_values_from(int present) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (2 * t + i % 2 + i / 2 * 8 < present) continue;
#pragma unroll
      for (int w = 0; w < S::kValueWords; ++w) values[i][w] = 0;
    }
  }
};

// A warp's running softmax over its blocks. Maximum and sum are of query head g, the sum this lane's share.
// Keys are the second operand of their product and give this lane the weights of head g for its tokens: they
// are, as they lie, the second operand of the product with the values. Its results: elements 2j of the g-th
// eighth of a head in values[j][0] (head 2t) and [1] (head 2t + 1), elements 2j + 1 in [2] and [3].
template <int kHeadSize>
struct WarpState {
  using S = Sizes<kHeadSize>;
  float maximum = -INFINITY;
  float sum = 0;
  float values[S::kTiles][4] = {};

  // Unscaled, of the tokens 2t, 2t + 1 and those 8 later.
  __device__ static void score(const Page<kHeadSize>& page, const uint32_t (&q)[S::kSteps][2],
                               float (&scores)[2][4]) {
#pragma unroll
    for (int step = 0; step < S::kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const uint32_t word = page.keys[i][step];
        // Rows 8 to 15 of the first operand are no heads.
        multiply(scores[i], q[step][0], 0, q[step][1], 0, widen(word), widen(word >> 16));
      }
    }
  }
  __device__ void add(const Page<kHeadSize>& page, float (&scores)[2][4], float scale, int present) {
    const int t = static_cast<int>(threadIdx.x) % 4;
    float largest = maximum;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        scores[i][j] = 8 * i + 2 * t + j < present ? scores[i][j] * scale : -INFINITY;
        largest = fmaxf(largest, scores[i][j]);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    if (__any_sync(~0u, largest > maximum)) {
      const float factor = weight_of(maximum, largest);
      sum *= factor;
      const float even = __shfl_sync(~0u, factor, 8 * t);  // of head 2t
      const float odd = __shfl_sync(~0u, factor, 8 * t + 4);
#pragma unroll
      for (int j = 0; j < S::kTiles; ++j) {
        values[j][0] *= even;
        values[j][1] *= odd;
        values[j][2] *= even;
        values[j][3] *= odd;
      }
      maximum = largest;
    }
    // Every block has a token, so that the maximum is a number.
    float p[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        p[i][j] = exp2f(scores[i][j] - maximum);
        sum += p[i][j];
      }
    }
    const uint32_t low = to_halves(p[0][0], p[0][1]);
    const uint32_t high = to_halves(p[1][0], p[1][1]);
#pragma unroll
    for (int w = 0; w < S::kValueWords; ++w) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Bytes of two tokens in turn: pairs of two elements.
        const uint32_t order = half == 0 ? 0x5140 : 0x7362;
        const uint32_t first = __byte_perm(page.values[0][w], page.values[1][w], order);
        const uint32_t second = __byte_perm(page.values[2][w], page.values[3][w], order);
        multiply(values[2 * w + half], widen(first), widen(first >> 16), widen(second), widen(second >> 16),
                 low, high);
      }
    }
  }
};

template <int kHeadSize>
struct Partial {
  float maximum[kWarps][kHeads];
  float sum[kWarps][kHeads];
  alignas(16) float values[kWarps][kHeads][kHeadSize];
};

// Query head g's elements as this lane's first operands: those that its key words meet.
template <int kHeadSize>
__device__ void load_query(const Fp8DecodeAttentionArgs& a, int row, int kv_head, int group,
                           uint32_t (&q)[Sizes<kHeadSize>::kSteps][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int g = lane / 4;
  const int t = lane % 4;
  const __nv_bfloat16* head = a.q + row * a.q_stride + (kv_head * group + min(g, group - 1)) * kHeadSize;
#pragma unroll
  for (int c = 0; c < Sizes<kHeadSize>::kSteps / 4; ++c) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float x[kVector];
      to_floats(load_vector(head + (t + 4 * c) * 16 + half * kVector), x);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        q[4 * c + 2 * half + i][0] = to_halves(x[4 * i], x[4 * i + 1]);
        q[4 * c + 2 * half + i][1] = to_halves(x[4 * i + 2], x[4 * i + 3]);
      }
    }
  }
}

// The blocks' and their warps' shares of each element, in order of rank and warp.
template <int kHeadSize>
__device__ void merge(Partial<kHeadSize>* own, int group, float scale, __nv_bfloat16* out) {
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks());
  const int elements = group * kHeadSize;
  for (int i = static_cast<int>(cluster.block_rank()) * kThreads + static_cast<int>(threadIdx.x);
       i < elements; i += blocks * kThreads) {
    const int h = i / kHeadSize;
    const int d = i % kHeadSize;
    float largest = -INFINITY;
    for (int b = 0; b < blocks; ++b) {
      const Partial<kHeadSize>* other = cluster.map_shared_rank(own, b);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, other->maximum[w][h]);
    }
    float sum = 0;
    float value = 0;
    for (int b = 0; b < blocks; ++b) {
      const Partial<kHeadSize>* other = cluster.map_shared_rank(own, b);
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float weight = weight_of(other->maximum[w][h], largest);
        sum += weight * other->sum[w][h];
        value += weight * other->values[w][h][d];
      }
    }
    out[i] = __float2bfloat16_rn(value / sum * scale);
  }
}

template <int kHeadSize>
__global__ void __launch_bounds__(kThreads, 4) fp8_decode_kernel(Fp8DecodeAttentionArgs a) {
  using S = Sizes<kHeadSize>;
  __shared__ Partial<kHeadSize> partial;
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int group = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  const int32_t* listed = a.kv_blocks + a.kv_start[row];
  const int blocks = a.kv_start[row + 1] - a.kv_start[row];
  const int step = static_cast<int>(gridDim.x) * kWarps;
  int block = static_cast<int>(blockIdx.x) * kWarps + warp;

  // Keys and values are requested anew as soon as the last ones are used.
  Page<kHeadSize> page;
  int id = block < blocks ? listed[block] : 0;
  if (block < blocks) {
    page.load_keys(a, kv_head, id);
    page.load_values(a, kv_head, id);
  }
  uint32_t q[S::kSteps][2];
  load_query<kHeadSize>(a, row, kv_head, group, q);
  const float scale = a.shape.scale * a.cache.k_scale * kLog2e;
  WarpState<kHeadSize> state;
  while (block < blocks) {
    const int present = block + 1 < blocks ? kBlockTokens : a.last_block_tokens[row];
    block += step;
    id = block < blocks ? listed[block] : id;
    float scores[2][4] = {};
    WarpState<kHeadSize>::score(page, q, scores);
    if (block < blocks) page.load_keys(a, kv_head, id);
    if (present < kBlockTokens) page.clear_values_from(present);
    state.add(page, scores, scale, present);
    if (block < blocks) page.load_values(a, kv_head, id);
  }
  state.sum += __shfl_xor_sync(~0u, state.sum, 1);
  state.sum += __shfl_xor_sync(~0u, state.sum, 2);
  const int g = lane / 4;
  const int t = lane % 4;
  if (t == 0) {
    partial.maximum[warp][g] = state.maximum;
    partial.sum[warp][g] = state.sum;
  }
#pragma unroll
  for (int j = 0; j < S::kTiles; ++j) {
    const float(&v)[4] = state.values[j];
    *reinterpret_cast<float2*>(&partial.values[warp][2 * t][g * S::kShare + 2 * j]) = make_float2(v[0], v[2]);
    *reinterpret_cast<float2*>(&partial.values[warp][2 * t + 1][g * S::kShare + 2 * j]) =
        make_float2(v[1], v[3]);
  }
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  cluster.sync();
  merge<kHeadSize>(&partial, group, a.cache.v_scale,
                   a.out + (static_cast<int64_t>(row) * a.shape.kv_heads + kv_head) * group * kHeadSize);
  cluster.sync();  // nobody leaves while its share is read
}

}  // namespace

bool fp8_decode_attention_fits(const AttentionShape& shape) {
  return (shape.head_size == 64 || shape.head_size == 128) && shape.block_size == kBlockTokens &&
         shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= kHeads;
}

void fp8_decode_attention(const CudaStream& stream, const Fp8DecodeAttentionArgs& args) {
  if (args.rows == 0) return;
  CHECK(fp8_decode_attention_fits(args.shape) && args.cache.type == KvType::kFp8,
        "head size {}, {} heads over {}", args.shape.head_size, args.shape.heads, args.shape.kv_heads);
  // Four blocks to a multiprocessor; a few rounds of them even out contexts of different lengths.
  constexpr int64_t kBlocks = 132 * 4;
  unsigned cluster = kMaxCluster;
  while (cluster > 1 && cluster * args.shape.kv_heads * args.rows > kBlocks) cluster /= 2;
  launch(stream.get(),
         {.grid = dim3(cluster, static_cast<unsigned>(args.shape.kv_heads), static_cast<unsigned>(args.rows)),
          .block = dim3(kThreads),
          .cluster = cluster,
          .dependent = true},
         args.shape.head_size == 128 ? &fp8_decode_kernel<128> : &fp8_decode_kernel<64>, args);
}

}  // namespace crible::cuda
