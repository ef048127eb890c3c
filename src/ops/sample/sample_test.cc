#include "ops/sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "ops/available_isas.h"
#include "ops/random_values.h"
#include "ops/sample/counter_random.h"

namespace crible {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<TokenId> run(CpuIsa isa, int threads, std::vector<float> logits, const std::vector<SampleRow>& rows) {
  const int64_t n = static_cast<int64_t>(rows.size()), vocabulary = static_cast<int64_t>(logits.size()) / n;
  Stream stream = Stream::create_cpu(threads, isa).value();
  EXPECT_TRUE(stream.reserve_scratch(sample_scratch_bytes(n, vocabulary, threads)));
  std::vector<TokenId> tokens(rows.size(), -99);
  sample(stream, {logits.data(), vocabulary, n, vocabulary, rows.data(), tokens.data()});
  return tokens;
}
TokenId run_one(CpuIsa isa, const std::vector<float>& logits, const SampleRow& row) {
  return run(isa, 1, logits, {row})[0];
}

// The distribution that the header promises, in float64 with a full sort.
std::vector<double> exact_distribution(const std::vector<float>& logits, const SampleRow& row) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (row.top_k > 0) order.resize(std::min<size_t>(order.size(), static_cast<size_t>(row.top_k)));
  std::vector<double> weight;
  for (size_t id : order) {
    weight.push_back(std::exp((static_cast<double>(logits[id]) - static_cast<double>(logits[order[0]])) /
                              static_cast<double>(row.temperature)));
  }
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  double sum = 0;
  size_t kept = 0;
  while (kept < weight.size() && (kept == 0 || sum < static_cast<double>(row.top_p) * total)) sum += weight[kept++];
  std::vector<double> probability(logits.size(), 0.0);
  for (size_t i = 0; i < kept; ++i) probability[order[i]] = weight[i] / sum;
  return probability;
}

// Pearson's statistic over tokens expected at least five times, the rest pooled. With d degrees of freedom
// it exceeds d + 5·sqrt(2d) + 10 with probability below 1e-5.
void expect_drawn_from(const std::vector<double>& probability, const std::vector<TokenId>& tokens, const char* what) {
  std::vector<double> count(probability.size(), 0.0);
  for (TokenId t : tokens) {
    ASSERT_GE(t, 0);
    ASSERT_GT(probability[static_cast<size_t>(t)], 0.0) << what << ": token " << t << " is excluded";
    count[static_cast<size_t>(t)] += 1;
  }
  double statistic = 0, pooled_expected = 0, pooled_count = 0;
  int freedom = -1;
  const auto add = [&](double observed, double expected) {
    statistic += (observed - expected) * (observed - expected) / expected;
    ++freedom;
  };
  for (size_t i = 0; i < probability.size(); ++i) {
    const double expected = probability[i] * static_cast<double>(tokens.size());
    if (expected >= 5) {
      add(count[i], expected);
    } else {
      pooled_expected += expected;
      pooled_count += count[i];
    }
  }
  if (pooled_expected >= 5) add(pooled_count, pooled_expected);
  EXPECT_LE(statistic, freedom + 5 * std::sqrt(2.0 * freedom) + 10) << what << ", degrees of freedom " << freedom;
}

TEST(Sample, DrawsFromTheExactDistribution) {
  struct Case {
    int64_t vocabulary;
    float spread;  // standard deviation of the logits
    SampleRow row;
  };
  const Case cases[] = {
      {50, 1.0f, {.temperature = 1.0f}},
      {1000, 2.0f, {.temperature = 0.7f}},
      {1000, 2.0f, {.temperature = 1.0f, .top_k = 40}},
      {1000, 2.0f, {.temperature = 1.3f, .top_p = 0.9f}},
      {300, 0.01f, {.temperature = 1.0f, .top_p = 0.5f}},   // nearly flat: the nucleus is half of it
      {1000, 3.0f, {.temperature = 0.8f, .top_p = 0.95f, .top_k = 20}},
      {130, 40.0f, {.temperature = 5.0f, .top_p = 0.99f, .top_k = 500}},  // top-k beyond the vocabulary
      {7, 1.0f, {.temperature = 1.0f, .top_p = 1e-6f}},     // only the largest is left
  };
  for (CpuIsa isa : available_isas()) {
    RandomValues random(3);
    for (const Case& c : cases) {
      const int64_t draws = 4000;
      const std::vector<float> logits = random.normals(c.vocabulary, c.spread);
      std::vector<float> all;
      std::vector<SampleRow> rows;
      for (int64_t i = 0; i < draws; ++i) {
        all.insert(all.end(), logits.begin(), logits.end());
        rows.push_back(c.row);
        rows.back().seed = 17;
        rows.back().position = i;
      }
      expect_drawn_from(exact_distribution(logits, c.row), run(isa, 2, all, rows), cpu_isa_name(isa));
    }
  }
}

TEST(Sample, GreedyTakesTheLowestIdOfTheLargest) {
  RandomValues random(4);
  for (CpuIsa isa : available_isas()) {
    for (int64_t vocabulary : {1, 7, 8, 9, 1000, 49152}) {
      std::vector<float> logits = random.normals(vocabulary);
      const int64_t at = random.integer(0, vocabulary - 1), again = random.integer(0, vocabulary - 1);
      logits[at] = logits[again] = 50.0f;
      EXPECT_EQ(run_one(isa, logits, {.temperature = 0.0f}), std::min(at, again));
    }
  }
}

TEST(Sample, TiesAtTheEdgeOfTopKGoToTheLowestIds) {
  for (CpuIsa isa : available_isas()) {
    const std::vector<float> logits(100, 1.0f);
    for (int64_t position = 0; position < 300; ++position) {
      EXPECT_LT(run_one(isa, logits, {.top_k = 7, .seed = 1, .position = position}), 7);
    }
  }
}

// Alone, in any batch, on any number of threads: the same token for the same row.
TEST(Sample, DoesNotDependOnCompanionsThreadsOrInstructionSet) {
  RandomValues random(5);
  const int64_t vocabulary = 5003, count = 30;
  const std::vector<float> logits = random.normals(vocabulary * count, 3.0f);
  std::vector<SampleRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.push_back({.temperature = i % 5 == 0 ? 0.0f : 0.2f * static_cast<float>(i % 7 + 1),
                    .top_p = i % 3 == 0 ? 0.9f : 1.0f, .top_k = i % 4 == 0 ? 50 : 0, .seed = random.bits(), .position = i});
  }
  const std::vector<TokenId> expected = run(CpuIsa::kScalar, 1, logits, rows);
  for (CpuIsa isa : available_isas()) {
    EXPECT_EQ(run(isa, 3, logits, rows), expected) << cpu_isa_name(isa);
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<float> own(logits.begin() + i * vocabulary, logits.begin() + (i + 1) * vocabulary);
      EXPECT_EQ(run_one(isa, own, rows[i]), expected[i]);
    }
  }
}

TEST(Sample, SeedAndPositionBothChangeTheDraw) {
  const std::vector<float> logits(1000, 0.0f);
  std::map<TokenId, int> by_seed, by_position;
  for (int64_t i = 0; i < 50; ++i) {
    ++by_seed[run_one(CpuIsa::kScalar, logits, {.seed = static_cast<uint64_t>(i), .position = 3})];
    ++by_position[run_one(CpuIsa::kScalar, logits, {.seed = 3, .position = i})];
  }
  EXPECT_GT(by_seed.size(), 40u);
  EXPECT_GT(by_position.size(), 40u);
}

TEST(Sample, FaultsAreReportedNeverDrawn) {
  RandomValues random(6);
  for (CpuIsa isa : available_isas()) {
    for (const SampleRow& row : {SampleRow{.temperature = 0.0f}, SampleRow{}, SampleRow{.top_p = 0.5f}, SampleRow{.top_k = 3}}) {
      for (int64_t at : {0, 5, 15, 16, 18}) {
        std::vector<float> logits = random.normals(19);
        logits[at] = kNaN;
        EXPECT_EQ(run_one(isa, logits, row), -1);
        logits[at] = kInfinity;
        EXPECT_EQ(run_one(isa, logits, row), -1);
        logits[at] = -kInfinity;  // a mask, not a fault
        const TokenId token = run_one(isa, logits, row);
        EXPECT_GE(token, 0);
        EXPECT_NE(token, at);
      }
      EXPECT_EQ(run_one(isa, std::vector<float>(19, -kInfinity), row), -1);
    }
  }
}

TEST(Sample, ForbiddenTokensAreNeverDrawn) {
  RandomValues random(7);
  for (CpuIsa isa : available_isas()) {
    const std::vector<float> logits = random.normals(20, 0.1f);
    std::vector<TokenId> forbidden;
    for (TokenId t = 0; t < 20; ++t) {
      if (t != 4 && t != 13) forbidden.push_back(t);
    }
    SampleRow row = {.seed = 8, .forbid_listed = true, .forbidden = forbidden.data(),
                     .num_forbidden = static_cast<int32_t>(forbidden.size())};
    std::map<TokenId, int> drawn;
    for (row.position = 0; row.position < 100; ++row.position) ++drawn[run_one(isa, logits, row)];
    EXPECT_EQ(drawn.size(), 2u);
    EXPECT_EQ(drawn[4] + drawn[13], 100);
    row.temperature = 0.0f;
    EXPECT_EQ(run_one(isa, logits, row), logits[4] >= logits[13] ? 4 : 13);
  }
}

TEST(Sample, TinyAndHugeTemperaturesStayFinite) {
  RandomValues random(8);
  for (CpuIsa isa : available_isas()) {
    const std::vector<float> logits = random.normals(1000, 5.0f);
    const TokenId best = run_one(isa, logits, {.temperature = 0.0f});
    for (float top_p : {1.0f, 0.9f}) {
      EXPECT_EQ(run_one(isa, logits, {.temperature = 1e-38f, .top_p = top_p}), best);
      EXPECT_GE(run_one(isa, logits, {.temperature = 1e38f, .top_p = top_p}), 0);
    }
  }
}

// Known answers from the paper's reference implementation.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
            (std::array<uint32_t, 4>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

}  // namespace
}  // namespace crible
