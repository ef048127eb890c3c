#include "device/cuda/launch.h"
#include "ops/decode_attention/batched_decode_cuda.h"
#include "ops/decode_attention/decode_page.cuh"
#include "ops/decode_attention/page_ranges.h"

namespace crible::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kMaxGroup = 8;
// Of one launch, on any device.
constexpr int kMaxBlocks = 1024;
// Two for each warp.
constexpr int kLeastPages = 2 * kWarps;
constexpr float kLog2e = 1.44269504f;

// Blocks per multiprocessor: what the registers of pages, sums and query allow. A warp has a page in flight
// nearly always, so that they read 64 to 96 KB at a time.
template <int kHeadSize, KvType kType>
constexpr int kResident = (kHeadSize == 64 ? 4 : 3) + (kType == KvType::kFp8 ? 1 : 0);

// exp2(a - b) where a may be minus infinity (nothing seen).
__device__ inline float weight_of(float a, float b) {
  return a == -INFINITY ? 0.0f : exp2f(a - b);
}

// The pages of one KV head of one row, within all pages of the step.
struct HeadPages {
  int row = 0;
  int head = 0;
  int listed = 0;  // index of the first in kv_blocks
  int count = 0;
  int begin = 0;

  __device__ int end() const { return begin + count; }
  // To the head that holds `page`, at or behind this one.
  __device__ void advance(const BatchedDecodeArgs& a, int page) {
    while (page >= end()) {
      begin = end();
      if (++head < a.shape.kv_heads) continue;
      head = 0;
      ++row;
      listed = a.kv_start[row];
      count = a.kv_start[row + 1] - listed;
    }
  }
  // Called by the whole block.
  __device__ static HeadPages find(const BatchedDecodeArgs& a, int page) {
    const int heads = static_cast<int>(a.shape.kv_heads);
    const int first = a.kv_start[0];
    HeadPages found;
    for (int r = 1; r < a.rows; r += kThreads) {
      const int row = r + static_cast<int>(threadIdx.x);
      found.row += __syncthreads_count(
          row < a.rows && heads * (a.kv_start[min(row, static_cast<int>(a.rows))] - first) <= page);
    }
    found.listed = a.kv_start[found.row];
    found.count = a.kv_start[found.row + 1] - found.listed;
    const int of_row = heads * (found.listed - first);
    found.head = (page - of_row) / found.count;
    found.begin = of_row + found.head * found.count;
    return found;
  }
};

// Whether the page holds its row's newest token.
__device__ inline bool is_newest(const HeadPages& pages, int page) {
  return page + 1 == pages.end();
}
// Where the page's keys and values are, counted in pages of the cache.
__device__ inline int place_of(const BatchedDecodeArgs& a, const HeadPages& pages, int page,
                               int pages_of_block) {
  return a.kv_blocks[pages.listed + page - pages.begin] * pages_of_block + pages.head;
}

// What the warps of a block, or the blocks of a head, found: in order, to be merged.
template <int kHeadSize>
struct Partial {
  static constexpr int kStride = kHeadSize + 2;  // of a head: two words spread the lanes over the banks
  float maximum[kWarps][kMaxGroup];
  float sum[kWarps][kMaxGroup];
  alignas(8) float values[kWarps][kMaxGroup * kStride];
};

// In the memory that blocks share: [2 · blocks] slots of maxima [group], sums [group], values
// [group][head_size]. A block's first slot is of a head that began before it, its second of one that goes on
// behind it.
struct Slots {
  float* base;
  int group;
  int head_size;

  __device__ float* maxima(int slot) const {
    return base + static_cast<int64_t>(slot) * group * (head_size + 2);
  }
  __device__ float* sums(int slot) const { return maxima(slot) + group; }
  __device__ float* values(int slot) const { return maxima(slot) + 2 * group; }
};

template <int kHeadSize, KvType kType>
__device__ void leave(const WarpSoftmax<kHeadSize, kType>& state, int group, Partial<kHeadSize>& partial) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  float sum = state.sum;
  sum += __shfl_xor_sync(~0u, sum, 1);
  sum += __shfl_xor_sync(~0u, sum, 2);
  if (t == 0) {
    partial.maximum[warp][g] = state.maximum;
    partial.sum[warp][g] = sum;
  }
#pragma unroll
  for (int j = 0; j < PageSizes<kHeadSize, kType>::kTiles; ++j) {
    const float(&v)[4] = state.values[j];
    float* even = partial.values[warp] + 2 * t * Partial<kHeadSize>::kStride + state.element(j);
    if (2 * t < group) *reinterpret_cast<float2*>(even) = make_float2(v[0], v[2]);
    if (2 * t + 1 < group)
      *reinterpret_cast<float2*>(even + Partial<kHeadSize>::kStride) = make_float2(v[1], v[3]);
  }
}

// The blocks' shares of a head, in order. Called by the block that left the last of them.
template <int kHeadSize>
__device__ void merge_blocks(const Slots& slots, int first, int count, float scale, __nv_bfloat16* out) {
  const auto slot_of = [&](int i) { return 2 * (first + i) + (i == 0 ? 1 : 0); };
  for (int i = static_cast<int>(threadIdx.x) * 2; i < slots.group * kHeadSize; i += kThreads * 2) {
    const int h = i / kHeadSize;
    float largest = -INFINITY;
#pragma unroll 4
    for (int b = 0; b < count; ++b) largest = fmaxf(largest, __ldcg(slots.maxima(slot_of(b)) + h));
    float sum = 0;
    float2 value = {};
#pragma unroll 4
    for (int b = 0; b < count; ++b) {
      const int slot = slot_of(b);
      const float weight = weight_of(__ldcg(slots.maxima(slot) + h), largest);
      const float2 part = __ldcg(reinterpret_cast<const float2*>(slots.values(slot) + i));
      sum += weight * __ldcg(slots.sums(slot) + h);
      value.x += weight * part.x;
      value.y += weight * part.y;
    }
    const float factor = scale / sum;
    *reinterpret_cast<__nv_bfloat162*>(out + i) = __floats2bfloat162_rn(value.x * factor, value.y * factor);
  }
}

// Merges the warps' shares of the head `pages` in shared memory: the result where the block has all of the
// head, else a slot, and the result where all other blocks have left theirs.
template <int kHeadSize>
__device__ void finish_head(const BatchedDecodeArgs& a, const PageRanges& ranges, const HeadPages& pages,
                            const Partial<kHeadSize>& partial, int* is_last) {
  const int group = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  const int first = ranges.worker_of(pages.begin);
  const int count = ranges.worker_of(pages.end() - 1) - first + 1;
  const int block = static_cast<int>(blockIdx.x);
  const Slots slots = {a.partial, group, kHeadSize};
  const int slot = 2 * block + (first == block ? 1 : 0);
  __nv_bfloat16* out = a.out + (pages.row * a.shape.kv_heads + pages.head) * group * kHeadSize;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x) * 2; i < group * kHeadSize; i += kThreads * 2) {
    const int h = i / kHeadSize;
    const int d = i % kHeadSize;
    float largest = -INFINITY;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, partial.maximum[w][h]);
    float sum = 0;
    float2 value = {};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float weight = weight_of(partial.maximum[w][h], largest);
      const float2 part =
          *reinterpret_cast<const float2*>(partial.values[w] + h * Partial<kHeadSize>::kStride + d);
      sum += weight * partial.sum[w][h];
      value.x += weight * part.x;
      value.y += weight * part.y;
    }
    if (count == 1) {
      const float factor = a.cache.v_scale / sum;
      *reinterpret_cast<__nv_bfloat162*>(out + i) = __floats2bfloat162_rn(value.x * factor, value.y * factor);
    } else {
      __stcg(reinterpret_cast<float2*>(slots.values(slot) + i), value);
      if (d == 0) {
        __stcg(slots.maxima(slot) + h, largest);
        __stcg(slots.sums(slot) + h, sum);
      }
    }
  }
  if (count == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    *is_last = atomicAdd(a.counters + first, 1) == count - 1;
    if (*is_last) a.counters[first] = 0;
    __threadfence();
  }
  __syncthreads();
  if (*is_last) merge_blocks<kHeadSize>(slots, first, count, a.cache.v_scale, out);
}

template <int kHeadSize, KvType kType>
__global__ void __launch_bounds__(kThreads, kResident<kHeadSize, kType>)
    batched_decode_kernel(BatchedDecodeArgs a) {
  // Two in turn: one is written while slower threads still read the other.
  __shared__ Partial<kHeadSize> partials[2];
  __shared__ int is_last;
  cudaTriggerProgrammaticLaunchCompletion();
  const int pages_of_step = static_cast<int>(a.shape.kv_heads) * (a.kv_start[a.rows] - a.kv_start[0]);
  const PageRanges ranges = PageRanges::of(pages_of_step, static_cast<int>(gridDim.x), kLeastPages);
  if (static_cast<int>(blockIdx.x) >= ranges.workers) return;
  const int end = ranges.begin(static_cast<int>(blockIdx.x) + 1);
  HeadPages pages = HeadPages::find(a, ranges.begin(static_cast<int>(blockIdx.x)));
  constexpr int kPageBytes = kPageTokens * kHeadSize * PageElement<kType>::kBytes;
  const auto* k = static_cast<const uint8_t*>(a.cache.k);
  const auto* v = static_cast<const uint8_t*>(a.cache.v);
  const int pages_of_block = static_cast<int>(a.cache.block_stride / (kPageTokens * kHeadSize));

  int page = ranges.begin(static_cast<int>(blockIdx.x)) + static_cast<int>(threadIdx.x) / 32;
  HeadPages ahead = pages;
  const auto locate = [&](int wanted) {
    if (wanted >= end) return -1;
    ahead.advance(a, wanted);
    return place_of(a, ahead, wanted, pages_of_block);
  };
  Page<kHeadSize, kType> held;
  const auto load_keys = [&](int place) { held.load_keys(k + static_cast<int64_t>(place) * kPageBytes); };
  const auto load_values = [&](int place) { held.load_values(v + static_cast<int64_t>(place) * kPageBytes); };
  const int first = locate(page);
  const bool early = first >= 0 && a.settled && !is_newest(ahead, page);
  if (early) {
    load_keys(first);
    load_values(first);
  }
  // The page after this one, whose request waits for its registers, and the one after that, whose place is
  // asked for a page before it is needed.
  int next = locate(page + kWarps);
  int later = locate(page + 2 * kWarps);
  cudaGridDependencySynchronize();
  if (first >= 0 && !early) {
    load_keys(first);
    load_values(first);
  }
  const int group = static_cast<int>(a.shape.heads / a.shape.kv_heads);
  const float scale = a.shape.scale * a.cache.k_scale * kLog2e;
  for (int side = 0;; side = 1 - side) {
    PageQuery<kHeadSize, kType> q;
    q.load(a.q + pages.row * a.q_stride + pages.head * group * kHeadSize, group);
    const int last_tokens = a.last_block_tokens[pages.row];
    const int stop = min(pages.end(), end);
    WarpSoftmax<kHeadSize, kType> state;
    while (page < stop) {
      const int present = page + 1 == pages.end() ? last_tokens : kPageTokens;
      float scores[2][2];
      held.score(q, scores);
      if (next >= 0) load_keys(next);
      if (present < kPageTokens) held.clear_values_from(present);
      state.add(held, scores, scale, present);
      if (next >= 0) load_values(next);
      page += kWarps;
      next = later;
      later = locate(page + 2 * kWarps);
    }
    leave(state, group, partials[side]);
    finish_head(a, ranges, pages, partials[side], &is_last);
    if (pages.end() >= end) return;
    pages.advance(a, pages.end());
  }
}

template <typename Visit>
auto for_kernel(int64_t head_size, KvType type, Visit&& visit) {
  if (head_size == 64) {
    return type == KvType::kBf16 ? visit(&batched_decode_kernel<64, KvType::kBf16>)
                                 : visit(&batched_decode_kernel<64, KvType::kFp8>);
  }
  return type == KvType::kBf16 ? visit(&batched_decode_kernel<128, KvType::kBf16>)
                               : visit(&batched_decode_kernel<128, KvType::kFp8>);
}

}  // namespace

bool batched_decode_fits(const AttentionShape& shape) {
  return (shape.head_size == 64 || shape.head_size == 128) && shape.block_size == kPageTokens &&
         shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= kMaxGroup;
}

Result<int> batched_decode_blocks(const AttentionShape& shape, KvType type) {
  int device = 0, multiprocessors = 0, resident = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  CRIBLE_CUDA_RETURN_IF_ERROR(for_kernel(shape.head_size, type, [&](auto* kernel) {
    // Nothing is read twice: what is not shared memory would lie idle.
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    if (error != cudaSuccess) return error;
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, 0);
  }));
  return std::min(kMaxBlocks, multiprocessors * resident);
}

int64_t batched_decode_partial_bytes(const AttentionShape& shape) {
  return 2 * kMaxBlocks * (shape.heads / shape.kv_heads) * (shape.head_size + 2) *
         static_cast<int64_t>(sizeof(float));
}

int64_t batched_decode_counter_bytes() {
  return kMaxBlocks * static_cast<int64_t>(sizeof(int32_t));
}

void batched_decode(const CudaStream& stream, const BatchedDecodeArgs& args) {
  if (args.rows == 0) return;
  CHECK(batched_decode_fits(args.shape), "head size {}, {} heads over {}", args.shape.head_size,
        args.shape.heads, args.shape.kv_heads);
  CHECK(args.blocks >= 1 && args.blocks <= kMaxBlocks, "{} blocks", args.blocks);
  for_kernel(args.shape.head_size, args.cache.type, [&](auto* kernel) {
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(args.blocks)), .block = dim3(kThreads), .dependent = true},
           kernel, args);
  });
}

}  // namespace crible::cuda
