// A draw never sorts the vocabulary. Without top-k and top-p the row is weighed once, in blocks, and the draw
// walks block sums. Otherwise the few logits near the maximum are collected (a wider net is cast until they must contain
// the answer), and selection by partition finds the exact set.
#include "ops/sample/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
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
};
int64_t candidate_bytes(int64_t vocabulary) {
  return round_up(vocabulary * static_cast<int64_t>(sizeof(Candidate)), 64);
}
int64_t scratch_bytes_per_thread(int64_t vocabulary) {
  return candidate_bytes(vocabulary) + round_up(ceil_div(vocabulary, kSampleBlock) * 8, 64);
}

// Larger logits first, then lower ids: a total order, so that ties are settled the same way everywhere.
bool comes_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

class RowSampler {
 public:
  RowSampler(const SampleKernels& kernels, const SampleRow& row, float* logits, int64_t vocabulary, Scratch scratch)
      : kernels_(kernels), row_(row), logits_(logits), vocabulary_(vocabulary), scratch_(scratch) {}

  TokenId sample() {
    if (row_.forbid_listed) {
      for (int32_t i = 0; i < row_.num_forbidden; ++i) {
        CHECK(row_.forbidden[i] >= 0 && row_.forbidden[i] < vocabulary_, "forbidden token {} of {}",
              row_.forbidden[i], vocabulary_);
        // A fault stays visible even under a mask.
        float& logit = logits_[row_.forbidden[i]];
        if (logit < std::numeric_limits<float>::infinity()) logit = kNegativeInfinity;
      }
    }
    const LogitSummary summary = kernels_.summarise(logits_, vocabulary_);
    if (summary.faulty || summary.maximum == kNegativeInfinity) return -1;
    if (row_.temperature == 0.0f) return summary.argmax;
    maximum_ = summary.maximum;
    const bool top_k = row_.top_k > 0 && row_.top_k < vocabulary_;
    if (!top_k && row_.top_p >= 1.0f) return draw_from_all();
    int64_t count = top_k ? select_top_k() : 0;
    if (row_.top_p < 1.0f) count = top_k ? select_top_p(count, weight_of(0, count)) : select_top_p_of_all();
    return draw_from_candidates(count);
  }

 private:
  static double weight(const Candidate& c) { return static_cast<double>(c.weight); }
  double weight_of(int64_t begin, int64_t end) const {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += weight(scratch_.candidates[i]);
    return sum;
  }
  double uniform() const { return uniform_from(row_.seed, static_cast<uint64_t>(row_.position)); }
  int64_t num_blocks() const { return ceil_div(vocabulary_, kSampleBlock); }

  TokenId draw_from_all() {
    kernels_.weigh(logits_, vocabulary_, maximum_, row_.temperature, logits_, scratch_.block_sums);
    double total = 0;
    for (int64_t b = 0; b < num_blocks(); ++b) total += scratch_.block_sums[b];
    double rest = uniform() * total;
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
  int64_t collect(float reach) const {
    const float threshold = std::max(maximum_ - reach, std::numeric_limits<float>::lowest());
    return kernels_.collect(logits_, vocabulary_, threshold, scratch_.candidates);
  }

  void weigh(int64_t count) const {
    kernels_.weigh_candidates(scratch_.candidates, count, maximum_, row_.temperature);
  }

  int64_t select_top_k() {
    constexpr float kFirstReach = 4.0f;
    int64_t count = 0;
    for (float reach = kFirstReach;; reach *= 2.0f) {
      count = collect(reach);
      if (count >= row_.top_k || std::isinf(reach)) break;
    }
    if (count > row_.top_k) {
      std::nth_element(scratch_.candidates, scratch_.candidates + row_.top_k, scratch_.candidates + count,
                       comes_before);
      count = row_.top_k;
    }
    weigh(count);
    return count;
  }

  int64_t select_top_p_of_all() {
    constexpr float kFirstReach = 8.0f;  // in units of the temperature: what lies beyond weighs < e⁻⁸ each
    kernels_.weigh(logits_, vocabulary_, maximum_, row_.temperature, nullptr, scratch_.block_sums);
    double total = 0;
    for (int64_t b = 0; b < num_blocks(); ++b) total += scratch_.block_sums[b];
    for (float reach = kFirstReach;; reach *= 2.0f) {
      const int64_t count = collect(reach * row_.temperature);
      weigh(count);
      if (std::isinf(reach) || weight_of(0, count) >= total * static_cast<double>(row_.top_p)) {
        return select_top_p(count, total);
      }
    }
  }

  // Puts the smallest leading set (in the order of comes_before) that weighs at least top_p of
  // `total` first among the `count` candidates, and returns its size, at least 1.
  int64_t select_top_p(int64_t count, double total) {
    constexpr int64_t kSortAtMost = 64;
    Candidate* c = scratch_.candidates;
    double wanted = total * static_cast<double>(row_.top_p);
    int64_t begin = 0;
    int64_t end = count;
    while (end - begin > kSortAtMost) {
      const int64_t middle = begin + (end - begin) / 2;
      std::nth_element(c + begin, c + middle, c + end, comes_before);
      const double half = weight_of(begin, middle);
      if (half >= wanted) {
        end = middle;
      } else {
        wanted -= half;
        begin = middle;
      }
    }
    std::sort(c + begin, c + end, comes_before);
    while (begin < end) {
      wanted -= weight(c[begin++]);
      if (wanted <= 0) break;
    }
    return begin;
  }

  TokenId draw_from_candidates(int64_t count) const {
    double rest = uniform() * weight_of(0, count);
    for (int64_t i = 0; i + 1 < count; ++i) {
      const double w = weight(scratch_.candidates[i]);
      if (rest < w) return scratch_.candidates[i].id;
      rest -= w;
    }
    return scratch_.candidates[count - 1].id;
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
    std::byte* own = memory + thread * per_thread;
    const Scratch scratch = {reinterpret_cast<Candidate*>(own),
                             reinterpret_cast<double*>(own + candidate_bytes(args.vocabulary))};
    args.tokens[r] = RowSampler(kernels, args.parameters[r], args.logits + r * args.logits_stride, args.vocabulary,
                                scratch).sample();
  });
}

}  // namespace crible
