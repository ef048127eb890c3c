#include "ops/sample/sample_cuda.h"

#include <cooperative_groups.h>

#include <cstdint>
#include <utility>

#include "device/cuda/launch.h"
#include "ops/sample/row_cluster_cuda.cuh"
#include "ops/sample/select_tokens_cuda.cuh"

namespace crible::cuda {
namespace {

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

// The largest logit that a thread has seen, at its lowest id, and whether one was not a number or +infinity.
struct Largest {
  float value = -INFINITY;
  int id = 0;
  bool faulty = false;

  __device__ void see(float logit, int at) {
    faulty |= !(logit < INFINITY);
    if (logit > value) {
      value = logit;
      id = at;
    }
  }
  __device__ uint64_t rank() const { return faulty ? kFault : rank_of(key_of(value), id); }
};

// Looks at this block's part of the row in global memory; keep: also copies it to shared memory. A thread has
// kLoads 16-byte loads under way at once, half of its share of the largest vocabularies in use; behind the
// row's end they repeat its last.
__device__ Largest read_row(const Row& row, const float* logits, int64_t vocabulary, bool keep) {
  constexpr int kLoads = 5;
  const int thread = static_cast<int>(threadIdx.x);
  const float* source = logits + row.begin;
  const int present =
      static_cast<int>(min(static_cast<int64_t>(row.size), max(vocabulary - row.begin, int64_t{0})));
  Largest largest;
  if (reinterpret_cast<uintptr_t>(source) % 16 == 0 && present % 4 == 0) {
#pragma unroll 1
    for (int first = 4 * thread; first < present; first += kLoads * 4 * kRowThreads) {
      float4 v[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int at = min(first + i * 4 * kRowThreads, present - 4);
        v[i] = __ldg(reinterpret_cast<const float4*>(source + at));
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int at = min(first + i * 4 * kRowThreads, present - 4);
        largest.see(v[i].x, row.begin + at);
        largest.see(v[i].y, row.begin + at + 1);
        largest.see(v[i].z, row.begin + at + 2);
        largest.see(v[i].w, row.begin + at + 3);
        if (keep) *reinterpret_cast<float4*>(row.values + at) = v[i];
      }
    }
  } else {
    for (int at = thread; at < row.size; at += kRowThreads) {
      const float logit = at < present ? __ldg(source + at) : -INFINITY;
      if (at < present) largest.see(logit, row.begin + at);
      if (keep) row.values[at] = logit;
    }
  }
  return largest;
}

// change(logit, value) at each of the ids of a list of pairs that are in this block's part.
template <typename Change>
__device__ void apply_pairs(const Row& row, const uint32_t* pairs, int count, Change change) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowThreads) {
    const int at = static_cast<int>(pairs[2 * i]) - row.begin;
    if (at >= 0 && at < row.size) change(row.values[at], pairs[2 * i + 1]);
  }
  __syncthreads();
}

// Pairs (id, occurrences), in a list or in a slot.
struct Seen {
  const uint32_t* pairs;
  int count;
};

__device__ Seen seen_of(const RowLists& lists, const uint32_t* words, const uint32_t* slot) {
  if (lists.kept != 0) return {slot + 2, static_cast<int>(slot[0])};
  return {words + lists.mask_words + lists.forbidden + 2 * lists.bias, lists.seen};
}

// Leaves the row's history, the token included, in its slot; a fault (-1) counts nothing, but the next step may be
// under way already and reads the slot. By one block of the cluster, after all of them have applied the history and
// met: until then others read what is changed here.
__device__ void remember(const Seen& seen, bool kept, uint32_t* slot, int32_t token) {
  auto* pairs = reinterpret_cast<uint2*>(slot + 2);
  bool counted = false;
  for (int i = static_cast<int>(threadIdx.x); i < seen.count; i += kRowThreads) {
    uint2 pair = {seen.pairs[2 * i], seen.pairs[2 * i + 1]};
    const bool own = static_cast<int32_t>(pair.x) == token;
    if (own) ++pair.y;
    if (own || !kept) pairs[i] = pair;
    counted |= own;
  }
  counted = __syncthreads_or(counted) != 0;
  if (threadIdx.x != 0) return;
  const bool is_new = !counted && token >= 0;
  if (is_new) pairs[seen.count] = {static_cast<uint32_t>(token), 1};
  slot[0] = static_cast<uint32_t>(seen.count) + (is_new ? 1 : 0);
}

// As adjust_logits() of logit_adjustments.h, with the same roundings. The row has been kept and is
// synchronised.
__device__ void adjust(const Row& row, const RowLists& lists, const uint32_t* words, const Seen& seen) {
  const auto forbid = [&](float& logit) {
    if (logit < INFINITY) logit = -INFINITY;
  };
  if (lists.mask_words > 0) {
    for (int at = static_cast<int>(threadIdx.x); at < row.size; at += kRowThreads) {
      const int id = row.begin + at;
      const bool allowed = id / 32 < lists.mask_words && (words[id / 32] >> (id % 32) & 1) != 0;
      if (!allowed) forbid(row.values[at]);
    }
    __syncthreads();
  }
  words += lists.mask_words;
  for (int i = static_cast<int>(threadIdx.x); i < lists.forbidden; i += kRowThreads) {
    const int at = static_cast<int>(words[i]) - row.begin;
    if (at >= 0 && at < row.size) forbid(row.values[at]);
  }
  __syncthreads();
  words += lists.forbidden;
  const auto add = [](float& logit, uint32_t bits) { logit = __fadd_rn(logit, __uint_as_float(bits)); };
  apply_pairs(row, words, lists.bias, add);
  words += 2 * lists.bias;
  apply_pairs(row, seen.pairs, seen.count, [&](float& logit, uint32_t occurrences) {
    float x = logit;
    x = x > 0 ? __fdiv_rn(x, lists.repetition_penalty) : __fmul_rn(x, lists.repetition_penalty);
    if (occurrences > 0) {
      x = __fsub_rn(x, __fmul_rn(static_cast<float>(static_cast<int>(occurrences)), lists.frequency_penalty));
      x = __fsub_rn(x, lists.presence_penalty);
    }
    logit = x;
  });
  words += 2 * lists.seen;
  apply_pairs(row, words, lists.dry, add);
}

// Tokens less likely than min_p of the likeliest become impossible. Logits well below the limit are
// recognised without their weight, which decides near it.
__device__ void drop_unlikely(const Row& row, float min_p) {
  constexpr float kMargin = 1e-4f;
  const float reach = row.temperature * (kMargin - (1.0f + kMargin) * logf(min_p));
  for_each(row, [&](float logit, int at) {
    // Not >=: an impossible one has no quotient.
    if (logit - row.maximum < -reach || !(exponential_to_one(row.scaled(logit)) >= min_p))
      row.values[at] = -INFINITY;
  });
}

// Tokens outside the typical set become impossible.
__device__ void drop_atypical(Row& row, float typical_p) {
  ByTypicality order = {static_cast<double>(row.maximum), 1.0 / static_cast<double>(row.temperature), 0.0};
  // x · e^x is at most 1 / e in size: the mean of x is summed in the weights' fixed point, with its sign
  // turned.
  RowSums<2, 1> sums;
  for_each(row, [&](float logit, int) {
    const uint64_t weight = row.weight(logit);
    if (weight == 0) return;
    const double x = (static_cast<double>(logit) - order.maximum) * order.inverse_temperature;
    sums.mass[0] += weight;
    sums.mass[1] += __double2ull_rn(-x * static_cast<double>(weight));
  });
  add_over_cluster(row, sums);
  order.mean = -static_cast<double>(sums.mass[1]) / static_cast<double>(sums.mass[0]);
  constexpr uint64_t kAnyDrawable = uint64_t{ByTypicality::kFarthest} << 32;
  const uint64_t cut = select_leading<Measure::kWeight>(row, order, kAnyDrawable, typical_p);
  for_each(row, [&](float logit, int at) {
    if (rank_of(order.key(logit), row.begin + at) < cut) row.values[at] = -INFINITY;
  });
}

// The first id at which the running weight of the tokens from `cut` up exceeds a number below their whole
// weight. Each thread has a contiguous run of ids, of odd length: a warp then reads 32 banks. A warp looks
// through the run in which the number falls.
__device__ int32_t draw(Row& row, uint64_t cut, uint64_t seed, int64_t position) {
  RowExchange& exchange = *row.exchange;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int length = (row.size + kRowThreads - 1) / kRowThreads | 1;
  const int begin = thread * length;
  const auto weight_at = [&](int at) {
    if (at >= row.size) return uint64_t{0};
    const float logit = row.values[at];
    return rank_of(key_of(logit), row.begin + at) >= cut ? row.weight(logit) : uint64_t{0};
  };
  __syncthreads();
  uint64_t mass = 0;
#pragma unroll 4
  for (int i = 0; i < length; ++i) mass += weight_at(begin + i);
  const uint64_t after = running_sum(exchange, mass);
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  if (thread == kRowThreads - 1) {
    for (int b = 0; b < kClusterBlocks; ++b) {
      *cluster.map_shared_rank(&exchange.block_sums[row.turn][row.block][0], b) = after;
    }
  }
  cluster.sync();
  uint64_t before = after - mass;
  uint64_t total = 0;
  for (int b = 0; b < kClusterBlocks; ++b) {
    if (b == row.block) before += total;
    total += exchange.block_sums[row.turn][b][0];
  }
  row.turn ^= 1;
  const uint64_t target = draw_below(seed, position, total);
  const uint32_t holds = __ballot_sync(~0u, target >= before && target - before < mass);
  bool found = false;
  int id = 0;
  if (holds != 0) {
    const int holder = __ffs(static_cast<int>(holds)) - 1;
    uint64_t rest = target - __shfl_sync(~0u, before, holder);
    const int run = __shfl_sync(~0u, begin, holder);
    for (int first = 0; first < length; first += 32) {
      uint64_t running = first + lane < length ? weight_at(run + first + lane) : 0;
#pragma unroll
      for (int offset = 1; offset < 32; offset *= 2) {
        const uint64_t other = __shfl_up_sync(~0u, running, offset);
        if (lane >= offset) running += other;
      }
      const uint32_t beyond = __ballot_sync(~0u, running > rest);
      if (beyond != 0) {
        found = lane == __ffs(static_cast<int>(beyond)) - 1;
        id = row.begin + run + first + lane;
        break;
      }
      rest -= __shfl_sync(~0u, running, 31);
    }
  }
  return static_cast<int32_t>(from_owner(row, found, static_cast<uint64_t>(id)));
}

// Needs the row kept, its maximum and a temperature above 0. *changed: whether logits were made impossible.
__device__ int32_t choose(Row& row, const SampleRow& parameters, int64_t vocabulary, bool* changed) {
  if (parameters.min_p > 0) drop_unlikely(row, parameters.min_p);
  if (parameters.typical_p < 1.0f) drop_atypical(row, parameters.typical_p);
  *changed |= parameters.min_p > 0 || parameters.typical_p < 1.0f;
  uint64_t cut = kAnyFinite;
  if (parameters.top_k > 0 && parameters.top_k < vocabulary) {
    cut = select_leading<Measure::kNumber>(row, ByLogit(row), cut, parameters.top_k);
  }
  if (parameters.top_p < 1.0f)
    cut = select_leading<Measure::kWeight>(row, ByLogit(row), cut, parameters.top_p);
  return draw(row, cut, parameters.seed, parameters.position);
}

// The raw row is kept, with its maximum.
__device__ void report(Row& row, const float* logits, int32_t token, int32_t wanted, TokenLogprob* out) {
  row.set_temperature(1.0f);
  const float own = __ldg(logits + token);
  const uint64_t own_rank = rank_of(key_of(own), token);
  RowSums<1, 1> sums;
  for_each(row, [&](float logit, int at) {
    sums.mass[0] += row.weight(logit);
    if (rank_of(key_of(logit), row.begin + at) > own_rank) ++sums.count[0];
  });
  add_over_cluster(row, sums);
  const double log_total = log(static_cast<double>(sums.mass[0]) / static_cast<double>(kOne));
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(row.maximum) - log_total);
  };
  const int thread = static_cast<int>(threadIdx.x);
  if (row.block == 0 && thread == 0) out[0] = {token, logprob(own), static_cast<int32_t>(sums.count[0]) + 1};
  if (wanted == 0) return;
  const uint64_t cut = select_leading<Measure::kNumber>(row, ByLogit(row), kAnyFinite, wanted);
  const int listed = gather(row, [&](float logit, int id, ListedToken& listed_token) {
    listed_token = {rank_of(key_of(logit), id), 0};
    return listed_token.rank >= cut;
  });
  if (row.block != 0) return;
  const ListedToken mine = sorted_token(*row.exchange, listed);
  if (thread >= wanted) return;
  if (thread < listed) {
    const float logit = value_of(static_cast<uint32_t>(mine.rank >> 32));
    out[1 + thread] = {id_of(mine.rank), logprob(logit), thread + 1};
  } else {
    out[1 + thread] = {-1, -INFINITY, 0};
  }
}

__global__ void __launch_bounds__(kRowThreads, 2) sample_kernel(SampleArgs a, int part) {
  extern __shared__ float4 values[];
  __shared__ RowExchange exchange;
  cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  const int index = static_cast<int>(blockIdx.x) / kClusterBlocks;
  if (threadIdx.x == 0) exchange.gathered_count = exchange.listed = 0;
  // No block may write into another's memory before it has begun: known long before it is needed.
  auto begun = cluster.barrier_arrive();
  const SampleRow parameters = a.parameters[index];
  const float* logits = a.logits + index * a.logits_stride;
  Row row;
  row.exchange = &exchange;
  row.values = reinterpret_cast<float*>(values);
  row.block = static_cast<int>(cluster.block_rank());
  row.begin = row.block * part;
  const int64_t present = min(static_cast<int64_t>(part), max(a.vocabulary - row.begin, int64_t{0}));
  row.size = static_cast<int>((present + 3) / 4 * 4);
  row.turn = 0;
  row.set_temperature(parameters.temperature);

  const RowLists& lists = parameters.lists;
  const uint32_t* words = a.lists + lists.first;
  uint32_t* slot = lists.slot < 0 ? nullptr : a.histories + lists.slot * a.history_stride;
  const bool adjusted = !lists.empty();
  const bool draws = parameters.given < 0 && parameters.temperature > 0;
  Largest largest =
      read_row(row, logits, a.vocabulary, adjusted || draws || parameters.logprobs != kNoLogprobs);
  Seen seen = {};
  if (adjusted) {
    seen = seen_of(lists, words, slot);
    __syncthreads();
    adjust(row, lists, words, seen);
    largest = {};
    for_each(row, [&](float logit, int at) { largest.see(logit, row.begin + at); });
  }
  cluster.barrier_wait(std::move(begun));
  const uint64_t best = max_over_cluster(row, largest.rank());
  row.maximum = value_of(static_cast<uint32_t>(best >> 32));
  int32_t token = id_of(best);
  bool changed = adjusted;
  if (best < kAnyFinite || best == kFault) {
    token = -1;
  } else if (parameters.given >= 0) {
    token = parameters.given;
  } else if (draws) {
    token = choose(row, parameters, a.vocabulary, &changed);
  }
  if (row.block == 0 && threadIdx.x == 0) a.tokens[index] = token;
  if (row.block == 0 && slot != nullptr) remember(seen, lists.kept != 0, slot, token);
  if (parameters.logprobs == kNoLogprobs || token < 0) return;
  if (changed) {
    __syncthreads();
    largest = read_row(row, logits, a.vocabulary, true);
    row.maximum = value_of(static_cast<uint32_t>(max_over_cluster(row, largest.rank()) >> 32));
  }
  report(row, logits, token, parameters.logprobs, a.logprobs + index * a.logprobs_stride);
}

}  // namespace

void sample(const CudaStream& stream, const SampleArgs& args) {
  if (args.rows == 0) return;
  CHECK(args.vocabulary > 0 && args.vocabulary <= kMaxVocabulary, "vocabulary {}", args.vocabulary);
  const int part = static_cast<int>((args.vocabulary + 4 * kClusterBlocks - 1) / (4 * kClusterBlocks) * 4);
  const size_t shared_bytes = static_cast<size_t>(part) * sizeof(float);
  SampleArgs placed = args;
  if (placed.logits_stride == 0) placed.logits_stride = placed.vocabulary;
  // Per device, so with every launch.
  allow_shared_bytes(&sample_kernel, shared_bytes);
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(args.rows) * kClusterBlocks),
          .block = dim3(kRowThreads),
          .shared_bytes = shared_bytes,
          .cluster = kClusterBlocks},
         &sample_kernel, placed, part);
}

}  // namespace crible::cuda
