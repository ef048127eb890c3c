#include <cstdint>

#include "device/cuda/launch.h"
#include "ops/sample/sample_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kBounds = 7;       // tried at once: an eight-way search
constexpr float kOne = 0x1p40f;  // weight 1 as fixed point; 2^18 tokens sum to 2^58

// Bits that order as the floats do.
__device__ inline uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 != 0 ? 0xFFFFFFFFu : 0x80000000u);
}
__device__ inline float value_of(uint32_t key) {
  return __uint_as_float(key ^ (key >> 31 != 0 ? 0x80000000u : 0xFFFFFFFFu));
}

template <typename T, typename Combine>
__device__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

// Philox4x32-10 and its 53-bit fraction, as counter_random.cc: floor(u · total) without rounding.
__device__ uint64_t draw_below(uint64_t seed, int64_t position, uint64_t total) {
  uint32_t c0 = static_cast<uint32_t>(position);
  uint32_t c1 = static_cast<uint32_t>(static_cast<uint64_t>(position) >> 32);
  uint32_t c2 = 0;
  uint32_t c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed);
  uint32_t k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c0;
    const uint64_t b = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(b);
    c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const uint64_t bits = (uint64_t{c0} << 32 | c1) >> 11 << 11;
  return __umul64hi(bits, total);
}

// The kept tokens: every key above `floor`, and of those equal to it the first `ties` in order of id.
struct Kept {
  uint32_t floor;
  uint64_t ties;
};

struct Row {
  const float* logits;
  int64_t vocabulary;
  float maximum;
  float inverse_temperature;

  __device__ uint64_t weight(float logit) const {
    return static_cast<uint64_t>(__expf((logit - maximum) * inverse_temperature) * kOne);
  }
};

// Σ over all elements of measure(key, logit, i) for each of kBounds sums.
template <typename Measure>
__device__ void sum_over_row(const Row& row, uint64_t (&sums)[kBounds], uint64_t (*shared)[kBounds],
                             Measure measure) {
#pragma unroll
  for (int i = 0; i < kBounds; ++i) sums[i] = 0;
#pragma unroll 4
  for (int64_t at = threadIdx.x; at < row.vocabulary; at += kThreads) {
    const float logit = row.logits[at];
    measure(key_of(logit), logit, sums);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kBounds; ++i) {
    const uint64_t sum = warp_reduce(sums[i], [](uint64_t a, uint64_t b) { return a + b; });
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32][i] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kBounds; ++i) {
    sums[i] = 0;
    for (int w = 0; w < kWarps; ++w) sums[i] += shared[w][i];
  }
}

// Shrinks `kept` to its smallest leading part (largest logits first, then lowest ids) that measures at
// least `wanted`: kMass by weight, otherwise by number. `wanted` is at most what kept measures.
template <bool kMass>
__device__ void shrink(const Row& row, Kept& kept, uint64_t wanted, uint64_t (*shared)[kBounds]) {
  const auto measure_of = [&](float logit) { return kMass ? row.weight(logit) : uint64_t{1}; };
  // Of the equal tokens at the old floor, as a whole.
  const uint64_t at_floor = kept.ties * measure_of(value_of(kept.floor));
  uint32_t low = kept.floor;                // measures at least `wanted` from here up
  uint32_t high = key_of(row.maximum) + 1;  // and less from here up
  uint64_t above = 0;                       // what it measures from `high` up
  // The first bounds lie at distances from the maximum that halve; the next divide the interval equally.
  bool first = true;
  while (high - low > 1) {
    const uint32_t step = (high - low + kBounds) / (kBounds + 1);
    uint32_t bounds[kBounds];
#pragma unroll
    for (int i = 0; i < kBounds; ++i) {
      const float distance = static_cast<float>(1 << (kBounds - 1 - i)) * 0.5f / row.inverse_temperature;
      bounds[i] =
          first ? max(low + 1, key_of(row.maximum - distance)) : low + static_cast<uint32_t>(i + 1) * step;
    }
    first = false;
    uint64_t sums[kBounds];
    sum_over_row(row, sums, shared, [&](uint32_t key, float logit, uint64_t(&s)[kBounds]) {
      if (key < bounds[0]) return;
      const uint64_t measure = measure_of(logit);
#pragma unroll
      for (int i = 0; i < kBounds; ++i) {
        if (key >= bounds[i]) s[i] += measure;
      }
    });
    for (int i = 0; i < kBounds; ++i) {
      if (bounds[i] >= high) break;
      if (sums[i] >= wanted) {
        low = bounds[i];
      } else {
        high = bounds[i];
        above = sums[i];
        break;
      }
    }
  }
  const uint64_t each = max(measure_of(value_of(low)), uint64_t{1});
  const uint64_t ties = wanted > above ? (wanted - above + each - 1) / each : 0;
  kept.ties = low == kept.floor && at_floor > 0 ? min(kept.ties, ties) : ties;
  kept.floor = low;
}

// What is kept measures, by number and by weight; the ties bounded by how many there are.
__device__ void measure_kept(const Row& row, Kept& kept, uint64_t* number, uint64_t* mass,
                             uint64_t (*shared)[kBounds]) {
  uint64_t sums[kBounds];
  sum_over_row(row, sums, shared, [&](uint32_t key, float logit, uint64_t(&s)[kBounds]) {
    if (key > kept.floor) {
      s[0] += 1;
      s[1] += row.weight(logit);
    } else if (key == kept.floor) {
      s[2] += 1;
    }
  });
  kept.ties = min(kept.ties, sums[2]);
  *number = sums[0] + kept.ties;
  *mass = sums[1] + kept.ties * row.weight(value_of(kept.floor));
}

// The first id at which the running weight of the kept tokens exceeds a number below their whole weight.
// Each warp has a contiguous stretch of ids.
__device__ int32_t draw(const Row& row, const Kept& kept, const SampleRow& parameters,
                        uint64_t (*shared)[kBounds]) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t stretch = (row.vocabulary + kWarps - 1) / kWarps;
  const int64_t begin = min(row.vocabulary, warp * stretch);
  const int64_t end = min(row.vocabulary, begin + stretch);
  uint64_t mass = 0;
  uint64_t ties = 0;
  for (int64_t at = begin + lane; at < end; at += 32) {
    const uint32_t key = key_of(row.logits[at]);
    if (key > kept.floor) mass += row.weight(row.logits[at]);
    if (key == kept.floor) ++ties;
  }
  const auto add = [](uint64_t a, uint64_t b) { return a + b; };
  mass = warp_reduce(mass, add);
  ties = warp_reduce(ties, add);
  __syncthreads();
  if (lane == 0) {
    shared[warp][0] = mass;
    shared[warp][1] = ties;
  }
  __syncthreads();
  const uint64_t tie_weight = row.weight(value_of(kept.floor));
  uint64_t total = 0;
  uint64_t before = 0;  // weight of the warps before this one
  uint64_t ties_before = 0;
  uint64_t ties_so_far = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) {
      before = total;
      ties_before = ties_so_far;
    }
    const uint64_t admitted = min(shared[w][1], kept.ties - min(kept.ties, ties_so_far));
    total += shared[w][0] + admitted * tie_weight;
    ties_so_far += shared[w][1];
    if (w == warp) mass = shared[w][0] + admitted * tie_weight;
  }
  const uint64_t target = draw_below(parameters.seed, parameters.position, total);
  __shared__ int32_t found;
  if (target >= before && target < before + mass) {
    uint64_t rest = target - before;
    uint64_t rank = ties_before;
    for (int64_t first = begin; first < end; first += 32) {
      const int64_t at = first + lane;
      const float logit = at < end ? row.logits[at] : 0.0f;
      const uint32_t key = key_of(logit);
      const bool tie = at < end && key == kept.floor;
      const uint32_t tied = __ballot_sync(~0u, tie);
      const bool admitted = tie && rank + __popc(tied & ((1u << lane) - 1)) < kept.ties;
      uint64_t running = at < end && (key > kept.floor || admitted) ? row.weight(logit) : 0;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, running, offset);
        if (lane >= offset) running += other;
      }
      const uint32_t beyond = __ballot_sync(~0u, running > rest);
      if (beyond != 0) {
        if (lane == __ffs(static_cast<int>(beyond)) - 1) found = static_cast<int32_t>(at);
        break;
      }
      rest -= __shfl_sync(~0u, running, 31);
      rank += __popc(tied);
    }
  }
  __syncthreads();
  return found;
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleArgs a) {
  __shared__ uint64_t shared[kWarps][kBounds];
  const SampleRow parameters = a.parameters[blockIdx.x];
  Row row = {a.logits + blockIdx.x * a.vocabulary, a.vocabulary, 0, 1.0f / parameters.temperature};
  // Largest key first, then lowest id; a fault outranks everything.
  constexpr uint64_t kFault = ~uint64_t{0};
  uint64_t best = 0;
  for (int64_t at = threadIdx.x; at < row.vocabulary; at += kThreads) {
    const float logit = row.logits[at];
    const uint64_t rank = uint64_t{key_of(logit)} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(at));
    best = max(best, isnan(logit) || logit == INFINITY ? kFault : rank);
  }
  const auto larger = [](uint64_t x, uint64_t y) { return max(x, y); };
  best = warp_reduce(best, larger);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32][0] = best;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) best = max(best, shared[w][0]);
  __syncthreads();
  row.maximum = value_of(static_cast<uint32_t>(best >> 32));
  int32_t token = static_cast<int32_t>(0xFFFFFFFFu - static_cast<uint32_t>(best));
  if (best == kFault || row.maximum == -INFINITY) {
    token = -1;
  } else if (parameters.temperature > 0) {
    const float reach = parameters.min_p > 0 ? logf(parameters.min_p) * parameters.temperature : -INFINITY;
    // Minus infinity is never kept: its weight is 0.
    Kept kept = {key_of(fminf(row.maximum, row.maximum + reach)), kFault};
    uint64_t number = 0;
    uint64_t mass = 0;
    if (parameters.top_k > 0 || parameters.top_p < 1.0f) measure_kept(row, kept, &number, &mass, shared);
    if (parameters.top_k > 0 && static_cast<uint64_t>(parameters.top_k) < number) {
      shrink<false>(row, kept, static_cast<uint64_t>(parameters.top_k), shared);
      measure_kept(row, kept, &number, &mass, shared);
    }
    if (parameters.top_p < 1.0f) {
      const double wanted = ceil(static_cast<double>(mass) * static_cast<double>(parameters.top_p));
      shrink<true>(row, kept, max(uint64_t{1}, static_cast<uint64_t>(wanted)), shared);
    }
    token = draw(row, kept, parameters, shared);
  }
  if (threadIdx.x == 0) a.tokens[blockIdx.x] = token;
}

}  // namespace

void sample(const CudaStream& stream, const SampleArgs& args) {
  if (args.rows == 0) return;
  CHECK(args.vocabulary > 0 && args.vocabulary <= int64_t{1} << 18, "vocabulary {}", args.vocabulary);
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(args.rows)), .block = dim3(kThreads)},
         &sample_kernel, args);
}

}  // namespace crible::cuda
