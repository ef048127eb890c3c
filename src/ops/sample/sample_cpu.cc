// A draw never sorts the vocabulary. Without filters the row is weighed once, in blocks, and the draw walks block
// sums. Otherwise the few logits near the maximum are collected (a wider net is cast until they must contain the
// answer), and selection by partition finds the exact set. Typical-p alone casts its net around the mean instead.
#include "ops/sample/sample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/sample/counter_random.h"
#include "ops/sample/sample_kernels.h"

namespace crible {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

struct Scratch {
  Candidate* candidates;  // [vocabulary]
  double* block_sums;     // [⌈vocabulary / kSampleBlock⌉]
  float* weights;         // [vocabulary]
  float* raw;             // [vocabulary]: the row as it came, where log-probabilities are wanted
};
int64_t candidate_bytes(int64_t vocabulary) {
  return round_up(vocabulary * static_cast<int64_t>(sizeof(Candidate)), 64);
}
int64_t block_sum_bytes(int64_t vocabulary) { return round_up(ceil_div(vocabulary, kSampleBlock) * 8, 64); }
int64_t row_bytes(int64_t vocabulary) { return round_up(vocabulary * static_cast<int64_t>(sizeof(float)), 64); }
int64_t scratch_bytes_per_thread(int64_t vocabulary) {
  return candidate_bytes(vocabulary) + block_sum_bytes(vocabulary) + 2 * row_bytes(vocabulary);
}
Scratch scratch_at(std::byte* memory, int64_t vocabulary) {
  std::byte* block_sums = memory + candidate_bytes(vocabulary);
  std::byte* weights = block_sums + block_sum_bytes(vocabulary);
  return {.candidates = reinterpret_cast<Candidate*>(memory),
          .block_sums = reinterpret_cast<double*>(block_sums),
          .weights = reinterpret_cast<float*>(weights),
          .raw = reinterpret_cast<float*>(weights + row_bytes(vocabulary))};
}

// Larger logits first, then lower ids: a total order, so that ties are settled the same way everywhere.
bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

class RowSampler {
 public:
  RowSampler(const SampleKernels& kernels, const SampleRow& row, float* logits, int64_t vocabulary, Scratch scratch)
      : kernels_(kernels), row_(row), logits_(logits), vocabulary_(vocabulary), scratch_(scratch) {}

  // logprobs: where to report them, if the row asks.
  TokenId sample(TokenLogprob* logprobs) {
    if (row_.logprobs == kNoLogprobs) return choose();
    std::copy_n(logits_, vocabulary_, scratch_.raw);
    const TokenId token = choose();
    if (token >= 0) report(token, logprobs);
    return token;
  }

 private:
  TokenId choose() {
    if (row_.adjustments != nullptr) adjust_logits(logits_, vocabulary_, *row_.adjustments);
    const LogitSummary summary = kernels_.summarise(logits_, vocabulary_);
    if (summary.faulty || summary.maximum == kNegativeInfinity) return -1;
    if (row_.given >= 0) return row_.given;
    if (row_.temperature == 0.0f) return summary.argmax;
    maximum_ = summary.maximum;
    const bool top_k = row_.top_k > 0 && row_.top_k < vocabulary_;
    const bool min_p = row_.min_p > 0.0f, typical_p = row_.typical_p < 1.0f, top_p = row_.top_p < 1.0f;
    if (!min_p && !typical_p && !top_k && !top_p) return draw_from_all();
    if (!min_p && !typical_p && !top_k) return draw_from_candidates(select_top_p_of_all());
    int64_t count = 0;
    if (min_p) {
      count = select_min_p();
    } else if (typical_p) {
      count = select_typical_of_all();
    } else {
      // The net may hold thousands: only what top-k keeps is weighed.
      count = select_top_k(collect_leading(logits_, maximum_, row_.top_k));
      weigh(count);
    }
    if (min_p && typical_p) count = select_typical(count);
    if (top_k) count = select_top_k(count);
    if (top_p) count = select_top_p(count, weight_of(0, count));
    return draw_from_candidates(count);
  }

  static double weight(const Candidate& c) { return static_cast<double>(c.weight); }
  double weight_of(int64_t begin, int64_t end) const {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += weight(scratch_.candidates[i]);
    return sum;
  }
  double uniform() const { return uniform_from(row_.seed, static_cast<uint64_t>(row_.position)); }
  int64_t num_blocks() const { return ceil_div(vocabulary_, kSampleBlock); }
  double sum_of_blocks() const {
    double total = 0;
    for (int64_t b = 0; b < num_blocks(); ++b) total += scratch_.block_sums[b];
    return total;
  }

  TokenId draw_from_all() {
    kernels_.weigh(logits_, vocabulary_, maximum_, row_.temperature, logits_, scratch_.block_sums);
    double rest = uniform() * sum_of_blocks();
    int64_t block = 0;
    while (block + 1 < num_blocks() && rest >= scratch_.block_sums[block]) rest -= scratch_.block_sums[block++];
    // Rounding can leave `rest` just above what the block holds: then its last possible token is drawn,
    // and if the block holds none (all weights 0), the nearest one before it.
    const int64_t end = std::min(vocabulary_, (block + 1) * kSampleBlock);
    for (int64_t i = block * kSampleBlock; i < end; ++i) {
      const double w = static_cast<double>(logits_[i]);
      if (rest < w) return static_cast<TokenId>(i);
      rest -= w;
    }
    int64_t last = end - 1;
    while (logits_[last] == 0.0f) --last;
    return static_cast<TokenId>(last);
  }

  // Collects logits of at least maximum - reach; everything when reach is infinite.
  int64_t collect(const float* logits, float maximum, float reach) const {
    const float low = std::max(maximum - reach, std::numeric_limits<float>::lowest());
    return kernels_.collect(logits, vocabulary_, low, std::numeric_limits<float>::max(), scratch_.candidates);
  }
  // A net with at least `wanted` of the largest logits, unless there are fewer in all.
  int64_t collect_leading(const float* logits, float maximum, int64_t wanted) const {
    constexpr float kFirstReach = 4.0f;
    for (float reach = kFirstReach;; reach *= 2.0f) {
      const int64_t count = collect(logits, maximum, reach);
      if (count >= wanted || std::isinf(reach)) return count;
    }
  }

  void weigh(int64_t count) const {
    kernels_.weigh_candidates(scratch_.candidates, count, maximum_, row_.temperature);
  }

  // Each of these puts what it keeps of the `count` candidates first and returns how many that are.

  int64_t select_min_p() {
    // The net is wider than the filter by more than the weights' rounding: the weights decide.
    constexpr float kMargin = 1e-4f;
    const float reach = row_.temperature * (kMargin - (1.0f + kMargin) * std::log(row_.min_p));
    const int64_t count = collect(logits_, maximum_, reach);
    weigh(count);
    return keep(count, [this](const Candidate& c) { return c.weight >= row_.min_p; });
  }

  // With x = (logit - maximum) / temperature, -ln p is ln Z - x and the entropy its mean: what a token is off the
  // entropy by is what its x is off the mean of x.
  double off(const Candidate& c, double mean) const {
    return std::abs((static_cast<double>(c.logit) - static_cast<double>(maximum_)) / static_cast<double>(row_.temperature) -
                    mean);
  }
  auto more_typical(double mean) const {
    return [this, mean](const Candidate& a, const Candidate& b) {
      const double off_a = off(a, mean), off_b = off(b, mean);
      return off_a != off_b ? off_a < off_b : a.id < b.id;
    };
  }

  int64_t select_typical(int64_t all) {
    const int64_t count = keep_weighty(all);
    double total = 0, moment = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Candidate& c = scratch_.candidates[i];
      total += weight(c);
      moment += weight(c) * (static_cast<double>(c.logit) - static_cast<double>(maximum_));
    }
    const double mean = moment / (total * static_cast<double>(row_.temperature));
    return select_mass(0, count, total * static_cast<double>(row_.typical_p), more_typical(mean));
  }

  // Logits that are off the mean by no more than `width`.
  struct Window {
    float low, high;
  };
  Window window(double mean, double width) const {
    const double temperature = static_cast<double>(row_.temperature), lowest = std::numeric_limits<float>::lowest();
    const double centre = static_cast<double>(maximum_) + temperature * mean;
    return {static_cast<float>(std::max(lowest, centre - temperature * width)),
            static_cast<float>(std::min(-lowest, centre + temperature * width))};
  }
  double weight_within(double mean, double width) const {
    const Window w = window(mean, width);
    return kernels_.weight_between(logits_, scratch_.weights, vocabulary_, w.low, w.high);
  }

  // The same of the whole vocabulary, without collecting it: bisection finds how wide the window must be, what lies in
  // the widest one too narrow is certain, and only what lies between that and the next is put in order.
  int64_t select_typical_of_all() {
    constexpr double kWidest = 256;  // weights vanish 104 below the maximum, and so does what is further off the mean
    constexpr int kBisections = 10;
    constexpr double kRounding = 0x1p-22;  // of a window's ends, with room
    kernels_.weigh(logits_, vocabulary_, maximum_, row_.temperature, scratch_.weights, scratch_.block_sums);
    const double total = sum_of_blocks(), temperature = static_cast<double>(row_.temperature);
    const double mean =
        kernels_.moment(logits_, scratch_.weights, vocabulary_, maximum_) / (total * temperature);
    const double wanted = total * static_cast<double>(row_.typical_p);
    double inner = 0, outer = 1;
    while (outer < kWidest && weight_within(mean, outer) < wanted) {
      inner = outer;
      outer *= 2;
    }
    for (int i = 0; i < kBisections; ++i) {
      const double middle = (inner + outer) / 2;
      (weight_within(mean, middle) < wanted ? inner : outer) = middle;
    }
    const double margin =
        kRounding * (std::abs(static_cast<double>(maximum_)) / temperature + std::abs(mean) + outer);
    const Window net = window(mean, outer + margin);
    const int64_t collected = kernels_.collect(logits_, vocabulary_, net.low, net.high, scratch_.candidates);
    weigh(collected);
    const int64_t count = keep_weighty(collected);
    Candidate* c = scratch_.candidates;
    const int64_t certain =
        std::partition(c, c + count, [&](const Candidate& x) { return off(x, mean) < inner - margin; }) - c;
    return select_mass(certain, count, wanted - weight_of(0, certain), more_typical(mean));
  }

  int64_t select_top_k(int64_t count) {
    if (count <= row_.top_k) return count;
    Candidate* c = scratch_.candidates;
    std::nth_element(c, c + row_.top_k, c + count, comes_before);
    return row_.top_k;
  }

  int64_t select_top_p(int64_t count, double total) {
    return select_mass(0, count, total * static_cast<double>(row_.top_p), comes_before);
  }

  int64_t select_top_p_of_all() {
    constexpr float kFirstReach = 8.0f;  // in units of the temperature: what lies beyond weighs < e⁻⁸ each
    kernels_.weigh(logits_, vocabulary_, maximum_, row_.temperature, nullptr, scratch_.block_sums);
    const double total = sum_of_blocks();
    for (float reach = kFirstReach;; reach *= 2.0f) {
      const int64_t count = collect(logits_, maximum_, reach * row_.temperature);
      weigh(count);
      if (std::isinf(reach) || weight_of(0, count) >= total * static_cast<double>(row_.top_p)) {
        return select_top_p(count, total);
      }
    }
  }

  template <typename Predicate>
  int64_t keep(int64_t count, Predicate predicate) const {
    Candidate* c = scratch_.candidates;
    return std::remove_if(c, c + count, std::not_fn(predicate)) - c;
  }

  int64_t keep_weighty(int64_t count) const {
    return keep(count, [](const Candidate& c) { return c.weight > 0.0f; });
  }

  // The end of the smallest leading set of [begin, end), in the order of `before`, that weighs at least `wanted`; it
  // holds at least one.
  template <typename Before>
  int64_t select_mass(int64_t begin, int64_t end, double wanted, Before before) {
    constexpr int64_t kSortAtMost = 64;
    Candidate* c = scratch_.candidates;
    while (end - begin > kSortAtMost) {
      const int64_t middle = begin + (end - begin) / 2;
      std::nth_element(c + begin, c + middle, c + end, before);
      const double half = weight_of(begin, middle);
      if (half >= wanted) {
        end = middle;
      } else {
        wanted -= half;
        begin = middle;
      }
    }
    std::sort(c + begin, c + end, before);
    while (begin < end) {
      wanted -= weight(c[begin++]);
      if (wanted <= 0) break;
    }
    return begin;
  }

  // A draw walks the tokens by id, whatever order the filters left them in: what (seed, position) means then depends
  // only on which tokens are kept. Those that weigh nothing may go.
  int64_t order_by_id(int64_t count) {
    constexpr int64_t kSortAtMost = 512;
    Candidate* c = scratch_.candidates;
    if (count <= kSortAtMost) {
      std::sort(c, c + count, [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
      return count;
    }
    std::fill_n(logits_, vocabulary_, 0.0f);
    for (int64_t i = 0; i < count; ++i) logits_[c[i].id] = c[i].weight;
    int64_t ordered = 0;
    for (int64_t id = 0; id < vocabulary_; ++id) {
      if (logits_[id] > 0.0f) c[ordered++] = {0.0f, static_cast<TokenId>(id), logits_[id]};
    }
    return ordered;
  }

  TokenId draw_from_candidates(int64_t kept) {
    const int64_t count = order_by_id(kept);
    double rest = uniform() * weight_of(0, count);
    for (int64_t i = 0; i + 1 < count; ++i) {
      const double w = weight(scratch_.candidates[i]);
      if (rest < w) return scratch_.candidates[i].id;
      rest -= w;
    }
    return scratch_.candidates[count - 1].id;
  }

  void report(TokenId token, TokenLogprob* out) const {
    const float* raw = scratch_.raw;
    const float maximum = kernels_.summarise(raw, vocabulary_).maximum;
    kernels_.weigh(raw, vocabulary_, maximum, 1.0f, nullptr, scratch_.block_sums);
    const double log_total = std::log(sum_of_blocks());
    const auto logprob = [&](float logit) {
      return static_cast<float>(static_cast<double>(logit) - static_cast<double>(maximum) - log_total);
    };
    int32_t rank = 1;
    for (int64_t i = 0; i < vocabulary_; ++i) rank += raw[i] > raw[token] || (raw[i] == raw[token] && i < token);
    out[0] = {token, logprob(raw[token]), rank};
    if (row_.logprobs == 0) return;
    const int64_t count = collect_leading(raw, maximum, row_.logprobs);
    const int64_t listed = std::min<int64_t>(count, row_.logprobs);
    std::partial_sort(scratch_.candidates, scratch_.candidates + listed, scratch_.candidates + count, comes_before);
    for (int64_t i = 0; i < row_.logprobs; ++i) {
      const Candidate& c = scratch_.candidates[i];
      out[1 + i] = i < listed ? TokenLogprob{c.id, logprob(c.logit), static_cast<int32_t>(i + 1)}
                              : TokenLogprob{-1, kNegativeInfinity, 0};
    }
  }

  const SampleKernels& kernels_;
  const SampleRow& row_;
  float* logits_;
  const int64_t vocabulary_;
  const Scratch scratch_;
  float maximum_ = 0;
};

const SampleKernels& kernels_for(CpuIsa isa) {
#if defined(__x86_64__)
  if (isa >= CpuIsa::kAvx2) return sample_kernels_avx2();
#endif
  return sample_kernels_scalar();
}

}  // namespace

int64_t sample_scratch_bytes(int64_t rows, int64_t vocabulary, int threads) {
  // One row runs on the caller; any thread may take one of several.
  return (rows == 1 ? 1 : threads) * scratch_bytes_per_thread(vocabulary);
}

void sample(Stream& stream, const SampleArgs& args) {
  const SampleKernels& kernels = kernels_for(stream.isa());
  const int64_t per_thread = scratch_bytes_per_thread(args.vocabulary);
  std::byte* memory = stream.scratch(sample_scratch_bytes(args.rows, args.vocabulary, stream.threads()));
  stream.pool().parallel_for(args.rows, [&](int64_t r, int thread) {
    TokenLogprob* logprobs = args.logprobs == nullptr ? nullptr : args.logprobs + r * args.logprobs_stride;
    args.tokens[r] = RowSampler(kernels, args.parameters[r], args.logits + r * args.logits_stride, args.vocabulary,
                                scratch_at(memory + thread * per_thread, args.vocabulary)).sample(logprobs);
  });
}

}  // namespace crible
