#include "study/record/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "base/atomic_file.h"

namespace crible::study {
namespace {

// Lives as long as the tests: a range-for over a part of a temporary would outlive it.
const nlohmann::json& golden_values() {
  static const nlohmann::json values = [] {
    const auto text = read_file(CRIBLE_SOURCE_DIR "/tests/golden/statistics.json");
    EXPECT_TRUE(text.has_value()) << text.error().message;
    return text ? nlohmann::json::parse(*text) : nlohmann::json();
  }();
  return values;
}

// SciPy and this room round differently in the last few bits of a chain of about a hundred
// operations: 1e-12 of the value's own size; quantile functions are iterated to about 1e-11.
void expect_close(double actual, double expected, double relative = 1e-10) {
  EXPECT_NEAR(actual, expected, relative * std::max(1e-300, std::abs(expected)) + 1e-14);
}

TEST(Statistics, AgreesWithSciPyOnSamples) {
  for (const auto& [name, golden] : golden_values().at("samples").items()) {
    SCOPED_TRACE(name);
    const auto samples = golden.at("samples").get<std::vector<double>>();
    for (const auto& [q, value] : golden.at("percentiles").items()) {
      expect_close(percentile(samples, std::stod(q)), value.get<double>());
    }
    expect_close(mean(samples), golden.at("mean").get<double>());
    // Variance about a large offset: the offset's own rounding (1e6 * 2^-53) enters squared and
    // divided by a variance of 1e-6.
    expect_close(sample_variance(samples), golden.at("variance").get<double>(),
                 name == "large_offset" ? 1e-6 : 1e-10);
    if (name == "large_offset") continue;
    expect_close(*t_test_p(samples), golden.at("p").get<double>(), 1e-8);
    for (const auto& [confidence, interval] : golden.at("intervals").items()) {
      const Interval actual = *t_interval(samples, std::stod(confidence));
      expect_close(actual.low, interval.at(0).get<double>(), 1e-8);
      expect_close(actual.high, interval.at(1).get<double>(), 1e-8);
    }
  }
}

TEST(Statistics, AgreesWithSciPyOnRates) {
  for (const auto& golden : golden_values().at("rates")) {
    const auto events = golden.at("events").get<int64_t>();
    const auto trials = golden.at("trials").get<int64_t>();
    const auto confidence = golden.at("confidence").get<double>();
    SCOPED_TRACE(golden.dump());
    const Interval interval = clopper_pearson(events, trials, confidence);
    expect_close(interval.low, golden.at("interval").at(0).get<double>(), 1e-8);
    expect_close(interval.high, golden.at("interval").at(1).get<double>(), 1e-8);
    expect_close(rate_upper_bound(events, trials, confidence), golden.at("upper").get<double>(), 1e-8);
    expect_close(rate_lower_bound(events, trials, confidence), golden.at("lower").get<double>(), 1e-8);
  }
}

TEST(Statistics, AgreesWithNumPyOnSlopes) {
  for (const auto& golden : golden_values().at("slopes")) {
    const auto x = golden.at("x").get<std::vector<double>>();
    const auto y = golden.at("y").get<std::vector<double>>();
    const auto covariate = golden.at("covariate").get<std::vector<double>>();
    const auto slope = least_squares_slope(x, y, covariate, 0.95);
    ASSERT_TRUE(slope.has_value());
    // NumPy inverts the normal matrix, whose condition number here is about 1e7.
    expect_close(slope->value, golden.at("slope").get<double>(), 1e-7);
    expect_close(slope->interval.low, golden.at("interval").at(0).get<double>(), 1e-6);
    expect_close(slope->interval.high, golden.at("interval").at(1).get<double>(), 1e-6);
  }
}

TEST(Statistics, AgreesWithTheDefinitionOfHolm) {
  for (const auto& golden : golden_values().at("holm")) {
    const auto p = golden.at("p").get<std::vector<double>>();
    const HolmResult result = holm(p, 0.05);
    for (size_t i = 0; i < p.size(); ++i) {
      expect_close(result.adjusted_p[i], golden.at("adjusted").at(i).get<double>());
      // What makes intervals at the granted share agree with the decision.
      EXPECT_EQ(result.adjusted_p[i] <= 0.05, p[i] <= result.alpha_share[i]) << p[i];
    }
  }
}

TEST(Statistics, AgreesWithSciPyOnStudentsQuantiles) {
  for (const auto& golden : golden_values().at("t_quantiles")) {
    expect_close(student_t_quantile(golden.at("p").get<double>(), golden.at("freedom").get<double>()),
                 golden.at("t").get<double>(), 1e-9);
  }
}

TEST(Statistics, StatesHowManySamplesAPercentileNeeds) {
  EXPECT_EQ(samples_needed(0.99, 0.95), 299);
  EXPECT_EQ(samples_needed(0.99, 0.99), 459);
  EXPECT_EQ(samples_needed(0.5, 0.95), 5);
  const std::vector<double> few(298, 1.0);
  const std::vector<double> enough(299, 1.0);
  EXPECT_FALSE(supported_percentile(few, 0.99).has_value());
  EXPECT_EQ(supported_percentile(enough, 0.99), 1.0);
  EXPECT_EQ(supported_percentile(few, 0.01), std::nullopt);
}

TEST(Statistics, BoundsTheFailuresThatSixtyFiveSuccessesAllow) {
  EXPECT_NEAR(rate_upper_bound(0, 65, 0.95), 0.045, 0.0005);
  // The rule of three is its approximation.
  EXPECT_NEAR(rate_upper_bound(0, 1000, 0.95), 3.0 / 1000, 1e-5);
}

TEST(Statistics, SaysNothingWhereTheSampleIsTooSmall) {
  const std::vector<double> one = {1.0};
  EXPECT_FALSE(t_interval(one, 0.95).has_value());
  EXPECT_FALSE(t_test_p(one).has_value());
  const std::vector<double> x = {0, 1}, y = {1, 2};
  EXPECT_FALSE(least_squares_slope(x, y, {}, 0.95).has_value());
  // The covariate explains x completely: its slope cannot be told apart.
  const std::vector<double> x4 = {0, 1, 2, 3}, y4 = {1, 2, 3, 5}, twice = {0, 2, 4, 6};
  EXPECT_FALSE(least_squares_slope(x4, y4, twice, 0.95).has_value());
  const std::vector<double> constant = {2, 2, 2, 2};
  EXPECT_FALSE(least_squares_slope(constant, y4, {}, 0.95).has_value());
}

TEST(Statistics, TellsCertainDifferencesFromNone) {
  const std::vector<double> equal = {0.2, 0.2, 0.2};
  const std::vector<double> none = {0.0, 0.0, 0.0};
  EXPECT_EQ(t_test_p(equal), 0.0);
  EXPECT_EQ(t_test_p(none), 1.0);
  EXPECT_NEAR(t_interval(equal, 0.95)->low, t_interval(equal, 0.95)->high, 1e-15);
}

TEST(Statistics, PercentilesLieWithinTheSampleAndGrowWithTheirRank) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> draw(0, 1);
  for (int round = 0; round < 100; ++round) {
    std::vector<double> samples(1 + random() % 50);
    for (double& x : samples) x = draw(random);
    double previous = std::ranges::min(samples);
    for (double q = 0; q <= 1; q += 0.05) {
      const double value = percentile(samples, q);
      EXPECT_GE(value, previous);
      previous = value;
    }
    EXPECT_EQ(percentile(samples, 1), std::ranges::max(samples));
  }
}

// The percentile bootstrap of the mean, kept here because it is the method that was tried and
// rejected.
Interval bootstrap_interval(const std::vector<double>& values, std::mt19937_64& random) {
  constexpr int kResamples = 400;
  std::vector<double> means;
  for (int i = 0; i < kResamples; ++i) {
    double sum = 0;
    for (size_t j = 0; j < values.size(); ++j) sum += values[random() % values.size()];
    means.push_back(sum / static_cast<double>(values.size()));
  }
  return {percentile(means, 0.025), percentile(means, 0.975)};
}

TEST(Statistics, StudentsTHoldsItsLevelOverFiveBlocksWhereABootstrapDoesNot) {
  constexpr int kRounds = 2000;
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  std::student_t_distribution<double> heavy(3);
  for (const bool heavy_tails : {false, true}) {
    int t_misses = 0, bootstrap_misses = 0;
    for (int round = 0; round < kRounds; ++round) {
      // Log ratios of two equal configurations: differences of like quantities, so symmetric.
      std::vector<double> values(5);
      for (double& x : values) {
        x = heavy_tails ? heavy(random) - heavy(random) : normal(random) - normal(random);
      }
      t_misses += !t_interval(values, 0.95)->contains(0);
      bootstrap_misses += !bootstrap_interval(values, random).contains(0);
    }
    // 5% of 2000 is 100; three binomial standard deviations are 29.
    EXPECT_LE(t_misses, 129) << (heavy_tails ? "heavy" : "normal");
    EXPECT_GE(bootstrap_misses, 200) << (heavy_tails ? "heavy" : "normal");
  }
}

}  // namespace
}  // namespace crible::study
