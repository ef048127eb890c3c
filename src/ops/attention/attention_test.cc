#include "ops/attention/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/attention/paged_case.h"
#include "ops/available_isas.h"

namespace crible {
namespace {

Stream make_stream(int threads, CpuIsa isa, const PagedCase& c) {
  auto stream = Stream::create_cpu(threads, isa);
  EXPECT_TRUE(stream) << stream.error().message;
  EXPECT_TRUE(stream->reserve_scratch(attention_scratch_bytes(c.num_tokens, c.heads, c.head_size, threads)));
  return std::move(*stream);
}

std::vector<float> run(Stream& stream, PagedCase& c) {
  std::vector<float> out(c.q.size(), std::numeric_limits<float>::quiet_NaN());
  attention(stream, c.batch(), c.args(out.data()));
  return out;
}

// float64 attention of one query head over keys and values as the cache holds them; also the largest magnitude
// among the visible values.
struct Expected {
  std::vector<double> out;
  double largest_value = 0;
  double score_bound = 0;  // largest Σ |q·k|·scale over the keys, and of the cap's own roundings
};
Expected reference(const PagedCase& c, const std::vector<float>& keys, const std::vector<float>& values, int64_t token,
                   int64_t head) {
  const int64_t visible = c.positions[static_cast<size_t>(token)] + 1, kv = head / (c.heads / c.kv_heads);
  const float* q = c.q.data() + (token * c.heads + head) * c.head_size;
  Expected e;
  e.out.assign(static_cast<size_t>(c.head_size), 0.0);
  std::vector<double> score(static_cast<size_t>(visible));
  double maximum = -INFINITY, sum = 0;
  const int64_t first = c.first_visible(token);
  for (int64_t p = first; p < visible; ++p) {
    double s = 0, bound = 0;
    for (int64_t d = 0; d < c.head_size; ++d) {
      const double product = static_cast<double>(q[d]) *
                             static_cast<double>(keys[(p * c.kv_heads + kv) * c.head_size + d]);
      s += product;
      bound += std::abs(product);
    }
    score[p] = s * static_cast<double>(c.scale());
    bound *= static_cast<double>(c.scale());
    if (c.logit_softcap != 0.0f) {
      const double softcap = static_cast<double>(c.logit_softcap);
      score[p] = softcap * std::tanh(score[p] / softcap);
      // Two products and the tangent's three units: 8 half units of the result, spread over head_size.
      bound += 8.0 / static_cast<double>(c.head_size) * std::abs(score[p]);
    }
    e.score_bound = std::max(e.score_bound, bound);
    maximum = std::max(maximum, score[p]);
  }
  for (int64_t p = first; p < visible; ++p) sum += (score[p] = std::exp(score[p] - maximum));
  for (int64_t p = first; p < visible; ++p) {
    for (int64_t d = 0; d < c.head_size; ++d) {
      const double v = static_cast<double>(values[(p * c.kv_heads + kv) * c.head_size + d]);
      e.out[d] += score[p] / sum * v;
      e.largest_value = std::max(e.largest_value, std::abs(v));
    }
  }
  return e;
}

// A score is off by at most head_size·ε·Σ|q·k|; that shifts its weight by the same relative amount, so a mean of
// values by twice that times the largest value. Sums over n keys round n·ε more.
void expect_close(const PagedCase& c, const std::vector<float>& out, const char* isa) {
  for (size_t s = 0; s < c.shapes.size(); ++s) {
    for (int64_t t = c.query_start[s]; t < c.query_start[s + 1]; ++t) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const Expected e = reference(c, c.stored_keys[s], c.stored_values[s], t, h);
        const double epsilon = 0x1p-24;
        const double bound = epsilon * e.largest_value *
                             (2.0 * static_cast<double>(c.head_size) * e.score_bound +
                              static_cast<double>(c.positions[static_cast<size_t>(t)] + 16));
        for (int64_t d = 0; d < c.head_size; ++d) {
          ASSERT_LE(std::abs(static_cast<double>(out[(t * c.heads + h) * c.head_size + d]) - e.out[d]), bound)
              << isa << " sequence " << s << " token " << t << " head " << h << " element " << d;
        }
      }
    }
  }
}

TEST(Attention, AgreesWithFloat64) {
  RandomValues random(1);
  struct Heads {
    int64_t heads, kv_heads, head_size;
  };
  for (CpuIsa isa : available_isas()) {
    for (Heads h : {Heads{3, 3, 64}, Heads{9, 3, 64}, Heads{4, 1, 80}, Heads{8, 1, 128}, Heads{2, 2, 8}}) {
      for (DType dtype : {DType::kF16, DType::kF32, DType::kBF16, DType::kI8}) {
        const int64_t block_size = int64_t{8} << random.integer(0, 2);
        PagedCase c(random, {{1, 1}, {33, 33}, {random.integer(40, 90), 1}, {290, 5}, {31, 3}}, h.heads, h.kv_heads,
                    h.head_size, block_size, dtype);
        Stream stream = make_stream(2, isa, c);
        expect_close(c, run(stream, c), cpu_isa_name(isa));
      }
    }
  }
}

// What the cache's type costs. An element is off by at most `unit` of itself (half a unit in the last place of
// its format) or, for integers, half a step of its vector; a score by δ = Σ|q|·|Δk|·scale; its weight by a factor
// within e^±2δ; a mean of values v by (e^2δ - 1)·max|v| + max|Δv|.
TEST(Attention, NarrowCachesStayWithinTheirFormatsErrorOfFloat64) {
  RandomValues random(7);
  for (const auto& [dtype, unit] : {std::pair(DType::kF16, 0x1p-11), {DType::kBF16, 0x1p-8}, {DType::kI8, 0.0}}) {
    PagedCase c(random, {{400, 3}, {90, 90}}, 4, 2, 64, 16, dtype);
    Stream stream = make_stream(2, available_isas().back(), c);
    const std::vector<float> out = run(stream, c);
    const auto error = [&, dtype = dtype, unit = unit](const float* vector, int64_t d) {
      if (dtype != DType::kI8) return unit * static_cast<double>(std::abs(vector[d]));
      float largest = 0.0f;
      for (int64_t i = 0; i < c.head_size; ++i) largest = std::max(largest, std::abs(vector[i]));
      return static_cast<double>(largest) / 254.0 * (1.0 + 0x1p-14);  // the rounding of x · inverse
    };
    for (size_t s = 0; s < c.shapes.size(); ++s) {
      for (int64_t t = c.query_start[s]; t < c.query_start[s + 1]; t += 7) {
        for (int64_t h = 0; h < c.heads; ++h) {
          const Expected e = reference(c, c.keys[s], c.values[s], t, h);
          double delta = 0, value_error = 0;
          for (int64_t p = 0; p <= c.positions[static_cast<size_t>(t)]; ++p) {
            const int64_t at = (p * c.kv_heads + h / 2) * c.head_size;
            double score_error = 0;
            for (int64_t d = 0; d < c.head_size; ++d) {
              const double q = static_cast<double>(c.q[(t * c.heads + h) * c.head_size + d] * c.scale());
              score_error += std::abs(q) * error(&c.keys[s][at], d);
              value_error = std::max(value_error, error(&c.values[s][at], d));
            }
            delta = std::max(delta, score_error);
          }
          const double bound = std::expm1(2 * delta) * e.largest_value + value_error + 1e-5;
          for (int64_t d = 0; d < c.head_size; ++d) {
            const double difference = static_cast<double>(out[(t * c.heads + h) * c.head_size + d]) - e.out[d];
            ASSERT_LE(std::abs(difference), bound) << dtype_name(dtype) << " token " << t << " head " << h;
          }
        }
      }
    }
  }
}

// Windows shorter than a tile, across tiles, across chunks and longer than the context; with NaN keys and no
// blocks before them.
TEST(Attention, WindowAndSoftcapAgreeWithFloat64) {
  RandomValues random(6);
  for (CpuIsa isa : available_isas()) {
    for (int64_t window : {1, 7, 32, 100, 256, 300, 1000}) {
      for (float softcap : {0.0f, 2.0f}) {
        if (softcap == 0.0f && window == 1000) continue;
        PagedCase c(random, {{1, 1}, {70, 70}, {random.integer(300, 600), 1}, {560, 20}, {31, 3}}, 3, 1, 32, 16,
                    DType::kF16);
        c.window = window;
        c.logit_softcap = softcap;
        c.forget_before_window();
        Stream stream = make_stream(2, isa, c);
        expect_close(c, run(stream, c), cpu_isa_name(isa));
      }
    }
  }
}

// One sequence computed in one go, in chunks of random sizes and token by token, among other
// sequences and on several thread counts: every row must have the same bits.
void expect_independent_rows(CpuIsa isa, DType dtype, int64_t window, float softcap) {
  const int64_t total = isa == CpuIsa::kScalar ? 300 : 600;
  RandomValues random(2);
  PagedCase whole(random, {{total, total}}, 6, 2, 64, 16, dtype);
  whole.window = window;
  whole.logit_softcap = softcap;
  Stream reference_stream = make_stream(1, isa, whole);
  const std::vector<float> expected = run(reference_stream, whole);
  const int64_t row = whole.heads * whole.head_size;
  for (int threads : {1, 2, 5}) {
    for (int64_t end = total; end > 0;) {
      const int64_t queries = std::min(end, threads == 2 ? 1 + random.integer(0, 5) : random.integer(1, 150));
      // The sequence itself, cut off at `end`, between two others that share its pool layout.
      const std::vector<SequenceShape> others = {{random.integer(1, 600), 1}, {20, random.integer(1, 20)}};
      PagedCase c(random, {others[0], {end, queries}, others[1]}, 6, 2, 64, 16, dtype);
      PagedCase same = c;
      same.window = window;
      same.logit_softcap = softcap;
      same.keys[1].assign(whole.keys[0].begin(), whole.keys[0].begin() + static_cast<int64_t>(c.keys[1].size()));
      same.values[1].assign(whole.values[0].begin(), whole.values[0].begin() + static_cast<int64_t>(c.values[1].size()));
      std::copy_n(whole.q.begin() + (end - queries) * row, queries * row, same.q.begin() + row);
      same.fill_cache();
      Stream stream = make_stream(threads, isa, same);
      const std::vector<float> out = run(stream, same);
      ASSERT_EQ(0, std::memcmp(out.data() + row, expected.data() + (end - queries) * row,
                               static_cast<size_t>(queries * row) * sizeof(float)))
          << cpu_isa_name(isa) << " " << threads << " threads, tokens " << end - queries << " to " << end;
      end -= isa == CpuIsa::kScalar ? std::max<int64_t>(queries, 130) : std::max<int64_t>(queries, 31);
    }
  }
}
TEST(Attention, RowsDoNotDependOnChunkingCompanionsOrThreads) {
  for (CpuIsa isa : available_isas()) {
    expect_independent_rows(isa, DType::kF16, 0, 0.0f);
    expect_independent_rows(isa, DType::kI8, 100, 30.0f);
  }
}

TEST(Attention, InstructionSetsAgreeBitForBit) {
  RandomValues random(3);
  for (int64_t head_size : {64, 80, 128}) {
    for (int64_t window : {0, 77}) {
      const DType dtype = window == 0 ? DType::kF16 : DType::kI8;
      PagedCase c(random, {{530, 10}, {300, 1}, {7, 7}}, 3, 1, head_size, 16, dtype);
      c.window = window;
      c.logit_softcap = window == 0 ? 0.0f : 1.5f;
      Stream scalar = make_stream(1, CpuIsa::kScalar, c);
      const std::vector<float> expected = run(scalar, c);
      for (CpuIsa isa : available_isas()) {
        Stream stream = make_stream(2, isa, c);
        const std::vector<float> out = run(stream, c);
        EXPECT_EQ(0, std::memcmp(out.data(), expected.data(), out.size() * sizeof(float))) << cpu_isa_name(isa);
      }
    }
  }
}

// Scores far apart and of both signs: the running maximum moves, nothing overflows.
TEST(Attention, SurvivesExtremeScores) {
  for (CpuIsa isa : available_isas()) {
    RandomValues random(4);
    PagedCase c(random, {{530, 2}, {64, 64}}, 2, 1, 64, 16, DType::kF32);
    for (float& x : c.q) x *= 200.0f;
    Stream stream = make_stream(2, isa, c);
    expect_close(c, run(stream, c), cpu_isa_name(isa));
  }
}

TEST(Attention, FaultyKeyReachesOnlyRowsThatSeeIt) {
  for (CpuIsa isa : available_isas()) {
    for (const auto& [in_key, dtype] : {std::pair(true, DType::kF16), {false, DType::kF16}, {true, DType::kI8},
                                         {false, DType::kI8}}) {
      RandomValues random(5);
      PagedCase c(random, {{70, 70}, {40, 4}}, 3, 1, 64, 16, dtype);
      const int64_t at = 45;
      (in_key ? c.keys : c.values)[0][at * c.head_size + 3] = std::numeric_limits<float>::quiet_NaN();
      c.fill_cache();
      Stream stream = make_stream(2, isa, c);
      const std::vector<float> out = run(stream, c);
      for (int64_t t = 0; t < c.num_tokens; ++t) {
        bool finite = true;
        for (int64_t i = 0; i < c.heads * c.head_size; ++i) finite &= std::isfinite(out[t * c.heads * c.head_size + i]);
        EXPECT_EQ(finite, t < at || t >= 70) << cpu_isa_name(isa) << " token " << t;
      }
    }
  }
}

}  // namespace
}  // namespace crible
