#include "ops/sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include <fmt/format.h>

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

// The distribution that the header promises, in float64 with full sorts.
std::vector<double> exact_distribution(std::vector<double> logits, const SampleRow& row) {
  if (const LogitAdjustments* adjust = row.adjustments) {
    for (size_t id = 0; id < logits.size() && !adjust->allowed.empty(); ++id) {
      if ((adjust->allowed[id / 32] >> id % 32 & 1) == 0) logits[id] = -HUGE_VAL;
    }
    for (const TokenId id : adjust->forbidden) logits[static_cast<size_t>(id)] = -HUGE_VAL;
    for (const AddedLogit& bias : adjust->bias) logits[static_cast<size_t>(bias.id)] += static_cast<double>(bias.value);
    for (const TokenCount& count : adjust->seen) {
      double& logit = logits[static_cast<size_t>(count.id)];
      const auto repetition = static_cast<double>(adjust->repetition_penalty);
      logit = logit > 0 ? logit / repetition : logit * repetition;
      logit -= count.in_output * static_cast<double>(adjust->frequency_penalty);
      if (count.in_output > 0) logit -= static_cast<double>(adjust->presence_penalty);
    }
    for (const AddedLogit& dry : adjust->dry) logits[static_cast<size_t>(dry.id)] += static_cast<double>(dry.value);
  }
  const double maximum = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p(logits.size());
  for (size_t i = 0; i < p.size(); ++i) p[i] = std::exp((logits[i] - maximum) / static_cast<double>(row.temperature));
  std::vector<size_t> kept(p.size());
  std::iota(kept.begin(), kept.end(), 0);
  const auto normalise = [&] {
    std::vector<double> former(p.size(), 0.0);
    std::swap(former, p);
    double total = 0;
    for (const size_t id : kept) total += former[id];
    for (const size_t id : kept) p[id] = former[id] / total;
  };
  // Keeps the leading tokens up to the one that makes the mass complete.
  const auto keep_mass = [&](double mass) {
    double sum = 0;
    size_t count = 0;
    while (count < kept.size() && (count == 0 || sum < mass)) sum += p[kept[count++]];
    kept.resize(count);
    normalise();
  };
  normalise();
  const double likeliest = *std::max_element(p.begin(), p.end());
  std::erase_if(kept, [&](size_t id) { return p[id] < static_cast<double>(row.min_p) * likeliest; });
  normalise();
  if (row.typical_p < 1) {
    std::erase_if(kept, [&](size_t id) { return p[id] == 0; });
    double entropy = 0;
    for (const size_t id : kept) entropy -= p[id] * std::log(p[id]);
    std::stable_sort(kept.begin(), kept.end(), [&](size_t x, size_t y) {
      return std::abs(-std::log(p[x]) - entropy) < std::abs(-std::log(p[y]) - entropy);
    });
    keep_mass(static_cast<double>(row.typical_p));
    std::sort(kept.begin(), kept.end());
  }
  std::stable_sort(kept.begin(), kept.end(), [&](size_t x, size_t y) { return logits[x] > logits[y]; });
  if (row.top_k > 0) kept.resize(std::min<size_t>(kept.size(), static_cast<size_t>(row.top_k)));
  normalise();
  if (row.top_p < 1) keep_mass(static_cast<double>(row.top_p));
  return p;
}
std::vector<double> exact_distribution(const std::vector<float>& logits, const SampleRow& row) {
  return exact_distribution(std::vector<double>(logits.begin(), logits.end()), row);
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

void expect_exact_draws(CpuIsa isa, const std::vector<float>& logits, const SampleRow& row, const std::string& what) {
  constexpr int64_t kDraws = 4000;
  std::vector<float> all;
  std::vector<SampleRow> rows(kDraws, row);
  for (int64_t i = 0; i < kDraws; ++i) {
    all.insert(all.end(), logits.begin(), logits.end());
    rows[static_cast<size_t>(i)].seed = 17;
    rows[static_cast<size_t>(i)].position = i;
  }
  expect_drawn_from(exact_distribution(logits, row), run(isa, 2, all, rows), (cpu_isa_name(isa) + (", " + what)).c_str());
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
      {1000, 2.0f, {.min_p = 0.05f}},
      {1000, 2.0f, {.temperature = 2.0f, .min_p = 0.2f}},
      {100, 0.01f, {.min_p = 1.0f}},
      {1000, 2.0f, {.typical_p = 0.5f}},
      {1000, 3.0f, {.temperature = 0.7f, .typical_p = 0.9f}},
      {300, 0.5f, {.typical_p = 0.2f}},
      {200, 0.0f, {.typical_p = 0.35f}},  // all equally typical: by id
      {130, 40.0f, {.temperature = 0.3f, .typical_p = 0.9f}},  // one token weighs nearly all
      {400, 3.0f, {.temperature = 30.0f, .typical_p = 0.6f}},
      {60, 1.0f, {.typical_p = 1e-4f}},  // only the most typical is left
      {1000, 2.0f, {.temperature = 1.2f, .min_p = 0.02f, .typical_p = 0.8f}},
      {1000, 2.0f, {.min_p = 0.01f, .top_k = 30}},
      {1000, 2.0f, {.temperature = 1.5f, .min_p = 0.01f, .top_p = 0.8f}},
      {1000, 2.0f, {.temperature = 1.5f, .min_p = 0.003f, .typical_p = 0.95f, .top_p = 0.9f, .top_k = 50}},
      {500, 2.0f, {.typical_p = 0.7f, .top_p = 0.7f, .top_k = 20}},
  };
  for (CpuIsa isa : available_isas()) {
    RandomValues random(3);
    int number = 0;
    for (const Case& c : cases) {
      expect_exact_draws(isa, random.normals(c.vocabulary, c.spread), c.row, fmt::format("case {}", number++));
    }
  }
}

// Random masks, biases and histories, each alone and all together, before every kind of filter.
TEST(Sample, DrawsFromTheExactlyAdjustedDistribution) {
  const std::vector<uint32_t> allowed = {0xFFFF0FF1, 0x12345678, 0, 0x0000000F};  // of 100 tokens
  const std::vector<TokenId> forbidden = {3, 17, 44};
  const std::vector<AddedLogit> bias = {{5, 4.0f}, {17, 50.0f}, {60, -100.0f}, {61, -1.5f}};
  std::vector<TokenCount> seen;
  for (TokenId id = 0; id < 60; id += 2) seen.push_back({id, id % 6});
  const std::vector<AddedLogit> dry = {{8, -3.0f}, {9, -1e30f}};
  const LogitAdjustments adjustments[] = {
      {.allowed = allowed},
      {.allowed = allowed, .forbidden = forbidden, .bias = bias},
      {.forbidden = forbidden},
      {.bias = bias},
      {.seen = seen, .repetition_penalty = 1.3f},
      {.seen = seen, .repetition_penalty = 0.8f},
      {.seen = seen, .frequency_penalty = 0.4f},
      {.seen = seen, .presence_penalty = -1.5f},
      {.dry = dry},
      {.forbidden = forbidden, .bias = bias, .seen = seen, .repetition_penalty = 1.2f, .frequency_penalty = 0.3f,
       .presence_penalty = 0.7f, .dry = dry},
  };
  const SampleRow rows[] = {{}, {.temperature = 0.8f, .min_p = 0.03f}, {.typical_p = 0.8f},
                            {.temperature = 1.4f, .top_p = 0.9f, .top_k = 30}};
  for (CpuIsa isa : available_isas()) {
    RandomValues random(31);
    for (const LogitAdjustments& adjust : adjustments) {
      for (SampleRow row : rows) {
        row.adjustments = &adjust;
        expect_exact_draws(isa, random.normals(100, 2.0f), row, fmt::format("adjustment {}", &adjust - adjustments));
      }
    }
  }
}

// The draw of a seed and position is the token at that share of the kept weight, by id: whichever filters ran, and
// whether few are kept or many.
TEST(Sample, ADrawWalksTheKeptTokensById) {
  RandomValues random(33);
  const SampleRow cases[] = {{.top_k = 40}, {.top_k = 900}, {.top_p = 0.5f}, {.top_p = 0.99f}, {.typical_p = 0.9f},
                             {.temperature = 3.0f, .min_p = 0.01f}, {.typical_p = 0.95f, .top_p = 0.9f, .top_k = 600}};
  for (CpuIsa isa : available_isas()) {
    for (SampleRow row : cases) {
      const std::vector<float> logits = random.normals(2000, 1.0f);
      const std::vector<double> probability = exact_distribution(logits, row);
      constexpr int64_t kDraws = 200;
      int64_t different = 0;
      for (row.position = 0; row.position < kDraws; ++row.position) {
        row.seed = 29;
        double rest = uniform_from(row.seed, static_cast<uint64_t>(row.position));
        size_t expected = 0;
        while (expected + 1 < probability.size() && rest >= probability[expected]) rest -= probability[expected++];
        different += run_one(isa, logits, row) != static_cast<TokenId>(expected);
      }
      // Float32 weights move each of up to 2,000 bounds by less than 1e-6 of the whole.
      EXPECT_LE(different, 1) << "top-k " << row.top_k << " top-p " << row.top_p << " typical-p " << row.typical_p;
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
  std::vector<TokenCount> seen;
  for (TokenId id = 0; id < vocabulary; id += 7) seen.push_back({id, id % 3});
  const LogitAdjustments adjustments = {.seen = seen, .repetition_penalty = 1.1f, .presence_penalty = 0.5f};
  std::vector<SampleRow> rows;
  for (int64_t i = 0; i < count; ++i) {
    rows.push_back({.temperature = i % 5 == 0 ? 0.0f : 0.2f * static_cast<float>(i % 7 + 1),
                    .min_p = i % 6 == 1 ? 0.01f : 0.0f, .typical_p = i % 7 == 2 ? 0.9f : 1.0f,
                    .top_p = i % 3 == 0 ? 0.9f : 1.0f, .top_k = i % 4 == 0 ? 50 : 0, .seed = random.bits(), .position = i,
                    .adjustments = i % 2 == 0 ? &adjustments : nullptr});
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

// The whole set, not only what is drawn of it: every token is drawn from in turn, by equal logits in two groups around
// the mean whose sizes make the set end within a group, and in a vocabulary where most tokens are impossible.
TEST(Sample, TypicalSetEndsWhereItsMassDoes) {
  RandomValues random(32);
  for (CpuIsa isa : available_isas()) {
    for (int round = 0; round < 20; ++round) {
      const int64_t vocabulary = random.integer(20, 1000);
      std::vector<float> logits = random.normals(vocabulary, 2.0f);
      for (int64_t i = 0; i < vocabulary; ++i) {
        if (random.integer(0, 2) == 0) logits[static_cast<size_t>(i)] = -std::numeric_limits<float>::infinity();
        if (random.integer(0, 3) == 0) logits[static_cast<size_t>(i)] = random.integer(0, 1) == 0 ? 1.5f : -0.25f;
      }
      logits[0] = 2.0f;
      SampleRow row = {.temperature = 0.5f + 0.1f * static_cast<float>(round), .typical_p = 0.04f * static_cast<float>(round + 1)};
      const std::vector<double> probability = exact_distribution(logits, row);
      std::vector<bool> drawn(probability.size(), false);
      const int64_t draws = 1500;
      for (row.position = 0; row.position < draws; ++row.position) {
        const TokenId token = run_one(isa, logits, row);
        ASSERT_GE(token, 0);
        ASSERT_GT(probability[static_cast<size_t>(token)], 0.0) << "round " << round << ", token " << token << " is excluded";
        drawn[static_cast<size_t>(token)] = true;
      }
      for (size_t i = 0; i < probability.size(); ++i) {
        EXPECT_TRUE(drawn[i] || probability[i] * static_cast<double>(draws) < 20) << "round " << round << ", token " << i;
      }
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
    const LogitAdjustments adjustments = {.forbidden = forbidden};
    SampleRow row = {.seed = 8, .adjustments = &adjustments};
    std::map<TokenId, int> drawn;
    for (row.position = 0; row.position < 100; ++row.position) ++drawn[run_one(isa, logits, row)];
    EXPECT_EQ(drawn.size(), 2u);
    EXPECT_EQ(drawn[4] + drawn[13], 100);
    row.temperature = 0.0f;
    EXPECT_EQ(run_one(isa, logits, row), logits[4] >= logits[13] ? 4 : 13);
    // A fault stays visible under a mask.
    std::vector<float> faulty = logits;
    faulty[7] = kNaN;
    EXPECT_EQ(run_one(isa, faulty, row), -1);
    faulty[7] = kInfinity;
    EXPECT_EQ(run_one(isa, faulty, row), -1);
  }
}

struct Scored {
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;  // [rows, stride]
};
constexpr int64_t kStride = 21;
Scored run_scored(CpuIsa isa, std::vector<float> logits, const std::vector<SampleRow>& rows) {
  const auto n = static_cast<int64_t>(rows.size()), vocabulary = static_cast<int64_t>(logits.size()) / n;
  Stream stream = Stream::create_cpu(2, isa).value();
  EXPECT_TRUE(stream.reserve_scratch(sample_scratch_bytes(n, vocabulary, 2)));
  Scored scored = {std::vector<TokenId>(rows.size(), -99),
                   std::vector<TokenLogprob>(rows.size() * kStride, TokenLogprob{-7, 0, 0})};
  sample(stream, {logits.data(), vocabulary, n, vocabulary, rows.data(), scored.tokens.data(), scored.logprobs.data(),
                  kStride});
  return scored;
}

// Log-probabilities are those of the raw logits whatever the row does to them, and cost the draw nothing: the
// tokens are the same with them and without.
TEST(Sample, LogprobsAreThoseOfTheRawLogits) {
  RandomValues random(12);
  const std::vector<AddedLogit> bias = {{2, 30.0f}, {3, -30.0f}};
  const LogitAdjustments adjustments = {.bias = bias};
  for (const int64_t vocabulary : {5, 64, 1000, 49152}) {
    std::vector<SampleRow> rows;
    for (int32_t i = 0; i < 24; ++i) {
      rows.push_back({.temperature = i % 4 == 0 ? 0.0f : 0.3f * static_cast<float>(i), .min_p = i % 5 == 0 ? 0.1f : 0.0f,
                      .top_p = i % 3 == 0 ? 0.8f : 1.0f, .seed = random.bits(), .position = i,
                      .adjustments = i % 2 == 0 ? &adjustments : nullptr, .logprobs = i % 6 == 5 ? kNoLogprobs : i % 21,
                      .given = i % 7 == 6 ? 4 : -1});
    }
    const auto n = static_cast<int64_t>(rows.size());
    std::vector<float> logits = random.normals(vocabulary * n, 3.0f);
    for (int64_t i = 0; i < n; ++i) logits[static_cast<size_t>(i * vocabulary)] = logits[static_cast<size_t>(i * vocabulary + 1)];  // a tie
    std::vector<SampleRow> plain = rows;
    for (SampleRow& row : plain) row.logprobs = kNoLogprobs;
    const Scored reference = run_scored(CpuIsa::kScalar, logits, rows);
    EXPECT_EQ(reference.tokens, run_scored(CpuIsa::kScalar, logits, plain).tokens);
    for (CpuIsa isa : available_isas()) {
      const Scored scored = run_scored(isa, logits, rows);
      ASSERT_EQ(scored.tokens, reference.tokens);
      ASSERT_EQ(std::memcmp(scored.logprobs.data(), reference.logprobs.data(), sizeof(TokenLogprob) * scored.logprobs.size()), 0)
          << "the same bits on every instruction set";
    }
    for (int64_t r = 0; r < n; ++r) {
      const float* row = logits.data() + r * vocabulary;
      const TokenLogprob* got = reference.logprobs.data() + r * kStride;
      if (rows[static_cast<size_t>(r)].logprobs == kNoLogprobs) {
        EXPECT_EQ(got[0].id, -7) << "not written";
        continue;
      }
      std::vector<size_t> order(static_cast<size_t>(vocabulary));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
      double total = 0;
      for (int64_t i = 0; i < vocabulary; ++i) total += std::exp(static_cast<double>(row[i]) - static_cast<double>(row[order[0]]));
      // Weights are within 2 units of float32's last place, the result is rounded to float32 once.
      const auto exact = [&](size_t id) {
        return static_cast<double>(row[id]) - static_cast<double>(row[order[0]]) - std::log(total);
      };
      const auto expect = [&](const TokenLogprob& logprob, size_t id, int64_t rank) {
        ASSERT_EQ(logprob.id, static_cast<TokenId>(id));
        EXPECT_EQ(logprob.rank, rank);
        EXPECT_NEAR(static_cast<double>(logprob.logprob), exact(id), 3e-7 + std::abs(exact(id)) * 1e-7);
      };
      const auto token = static_cast<size_t>(reference.tokens[static_cast<size_t>(r)]);
      expect(got[0], token, 1 + (std::find(order.begin(), order.end(), token) - order.begin()));
      for (int32_t i = 0; i < rows[static_cast<size_t>(r)].logprobs; ++i) {
        if (i < vocabulary) {
          expect(got[1 + i], order[static_cast<size_t>(i)], i + 1);
        } else {
          EXPECT_EQ(got[1 + i].id, -1);
        }
      }
    }
  }
}

TEST(Sample, AGivenTokenIsScoredNotDrawn) {
  RandomValues random(13);
  for (CpuIsa isa : available_isas()) {
    const std::vector<float> logits = random.normals(1000, 2.0f);
    const Scored scored = run_scored(isa, logits, {{.temperature = 0.0f, .logprobs = 0, .given = 321}});
    EXPECT_EQ(scored.tokens[0], 321);
    EXPECT_EQ(scored.logprobs[0].id, 321);
    std::vector<float> faulty = logits;
    faulty[5] = kNaN;
    EXPECT_EQ(run_scored(isa, faulty, {{.logprobs = 0, .given = 321}}).tokens[0], -1);
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
