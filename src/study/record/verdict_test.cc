#include "study/record/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "study/record/contrast.h"
#include "study/record/decision.h"
#include "study/record/gate.h"
#include "study/record/statistics.h"

namespace crible::study {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

const MetricReference kTtft{"conversation", "ttft_ms", "p50"};

// Five blocks around `centre`, with a spread in percent that is not the same in every block.
std::map<int, double> blocks(double centre, double spread_percent, int phase = 0) {
  const double shape[5] = {-1, 0.5, 1, -0.7, 0.2};
  std::map<int, double> values;
  for (int i = 0; i < 5; ++i) {
    values[i] = centre * (1 + spread_percent / 100 * shape[(i + phase) % 5]);
  }
  return values;
}

TEST(Contrast, PairsWithinBlocks) {
  // A block effect of a factor of ten disappears in the pairing.
  std::map<int, double> a, b;
  for (int i = 0; i < 5; ++i) {
    const double block = std::pow(10, i);
    a[i] = 2 * block;
    b[i] = block * (1 + 0.001 * i);
  }
  const Contrast contrast = compare(kTtft, "a", "b", a, b, 0.05);
  EXPECT_EQ(contrast.kind, EffectKind::kRatio);
  EXPECT_EQ(contrast.blocks, 5);
  EXPECT_NEAR(contrast.effect, 2, 0.01);
  EXPECT_LT(contrast.ci95->high - contrast.ci95->low, 0.02);
  EXPECT_FALSE(contrast.equivalent);
}

TEST(Contrast, UsesOnlyBlocksThatBothHave) {
  std::map<int, double> a = {{0, 10}, {1, 10}, {2, 10}}, b = {{1, 5}, {2, 5}, {7, 1000}};
  const Contrast contrast = compare(kTtft, "a", "b", a, b, 0.05);
  EXPECT_EQ(contrast.blocks, 2);
  EXPECT_NEAR(contrast.effect, 2, 1e-12);
  EXPECT_EQ(contrast.p, 0.0);
  EXPECT_EQ(compare(kTtft, "a", "b", a, {{1, 5}}, 0.05).ci95, std::nullopt);
  EXPECT_EQ(compare(kTtft, "a", "b", a, {}, 0.05).blocks, 0);
}

TEST(Contrast, IsSymmetric) {
  const auto a = blocks(100, 5), b = blocks(110, 7, 2);
  Contrast ab = compare(kTtft, "a", "b", a, b, 0.05), ba = compare(kTtft, "b", "a", b, a, 0.05);
  EXPECT_NEAR(ab.effect * ba.effect, 1, 1e-12);
  EXPECT_NEAR(ab.ci95->low * ba.ci95->high, 1, 1e-12);
  EXPECT_NEAR(*ab.p, *ba.p, 1e-12);
  EXPECT_EQ(better_side(ab, Direction::kLowerIsBetter), 1);
  EXPECT_EQ(better_side(ba, Direction::kLowerIsBetter), -1);
  EXPECT_EQ(better_side(ab, Direction::kHigherIsBetter), -1);
}

TEST(Contrast, ComparesMetricsThatMayBeZeroByDifference) {
  const MetricReference slope{"stability", "latency_slope", "mean"};
  const Contrast contrast = compare(slope, "a", "b", {{0, -1}, {1, 0}, {2, 1}},
                                    {{0, 0}, {1, 1}, {2, 2}}, 0.05);
  EXPECT_EQ(contrast.kind, EffectKind::kDifference);
  EXPECT_NEAR(contrast.effect, -1, 1e-12);
}

TEST(Contrast, IntervalsAgreeWithDecisions) {
  for (int step = 0; step < 60; ++step) {
    Contrast contrast = compare(kTtft, "a", "b", blocks(100, 4), blocks(100 + step, 4, 1), 0.05);
    Contrast* family[] = {&contrast};
    hold_to_winner_family(family, 4, 3);
    EXPECT_EQ(contrast.decided, !contrast.simultaneous->contains(1)) << step;
    correct_by_holm(family);
    EXPECT_EQ(contrast.decided, !contrast.simultaneous->contains(1)) << step;
    EXPECT_EQ(*contrast.adjusted_p, *contrast.p);  // a family of one
  }
}

TEST(Contrast, SaysHowManyBlocksWouldDecide) {
  Contrast contrast = compare(kTtft, "a", "b", blocks(100, 4), blocks(104, 4, 1), 0.01);
  Contrast* family[] = {&contrast};
  hold_to_winner_family(family, 4, 1);
  ASSERT_FALSE(contrast.decided);
  const int64_t needed = *blocks_needed(contrast, 0.01);
  const auto half = [&](int64_t n) {
    return student_t_quantile(1 - contrast.alpha / 2, static_cast<double>(n - 1)) *
           contrast.block_sd / std::sqrt(static_cast<double>(n));
  };
  EXPECT_GT(needed, 5);
  EXPECT_GT(std::abs(std::log(contrast.effect)), half(needed));
  EXPECT_LE(std::abs(std::log(contrast.effect)), half(needed - 1));
}

// --- Decisions over three configurations whose block values are given.
class DecisionTest : public ::testing::Test {
 protected:
  void add(const std::string& name, std::map<int, double> values, int features = 0,
           double memory = 100) {
    candidates_.push_back({name, false, features, memory, 100});
    values_.push_back(std::move(values));
  }

  Verdict decide_all(double margin = 0.05) {
    objective_.name = "agents";
    objective_.reference = kTtft;
    contrasts_.clear();
    for (size_t i = 0; i < values_.size(); ++i) {
      for (size_t j = i + 1; j < values_.size(); ++j) {
        contrasts_.push_back(compare(objective_.reference, candidates_[i].name,
                                     candidates_[j].name, values_[i], values_[j], margin));
      }
    }
    std::vector<Contrast*> family;
    for (Contrast& contrast : contrasts_) family.push_back(&contrast);
    hold_to_winner_family(family, static_cast<int>(values_.size()), 1);
    std::vector<int> indices;
    for (size_t i = 0; i < constraints_.size(); ++i) indices.push_back(static_cast<int>(i));
    return decide({objective_, candidates_, contrasts_, constraints_, indices, margin});
  }

  void gate(const std::string& configuration, ConstraintState state) {
    ConstraintResult result;
    result.configuration = configuration;
    result.state = state;
    constraints_.push_back(result);
  }

  static std::vector<ReasonKind> kinds(const Verdict& verdict) {
    std::vector<ReasonKind> result;
    for (const VerdictReason& reason : verdict.reasons) result.push_back(reason.kind);
    return result;
  }

  ObjectiveSpec objective_;
  std::vector<Candidate> candidates_;
  std::vector<std::map<int, double>> values_;
  std::vector<Contrast> contrasts_;
  std::vector<ConstraintResult> constraints_;
};

TEST_F(DecisionTest, AWinnerBeatsEveryRival) {
  add("slow", blocks(100, 2));
  add("fast", blocks(60, 2, 1));
  add("middle", blocks(80, 2, 2));
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kWinner);
  EXPECT_EQ(verdict.configuration, "fast");
  EXPECT_THAT(verdict.contenders, ElementsAre("fast"));
  EXPECT_THAT(kinds(verdict), ElementsAre(ReasonKind::kBeatsRival, ReasonKind::kBeatsRival));
  for (const VerdictReason& reason : verdict.reasons) {
    EXPECT_FALSE(contrasts_[static_cast<size_t>(*reason.contrast)].simultaneous->contains(1));
  }
}

TEST_F(DecisionTest, HigherCanBeBetter) {
  objective_.sense = Sense::kMaximise;
  add("slow", blocks(100, 2));
  add("fast", blocks(60, 2, 1));
  decide_all();
  objective_.reference = {"concurrency", "output_tokens_per_s", "mean"};
  contrasts_[0].reference = objective_.reference;
  const Verdict verdict = decide({objective_, candidates_, contrasts_, {}, {}, 0.05});
  EXPECT_EQ(verdict.configuration, "slow");
}

TEST_F(DecisionTest, AmongEqualsTheSimplestIsProposed) {
  add("all_on", blocks(100, 0.5), 2, 100);
  add("one_on_big", blocks(100, 0.5, 1), 1, 200);
  add("one_on_small", blocks(100, 0.5, 2), 1, 150);
  add("far", blocks(200, 0.5, 3), 0, 10);
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kTie);
  EXPECT_EQ(verdict.configuration, "one_on_small");
  EXPECT_THAT(verdict.contenders, UnorderedElementsAre("all_on", "one_on_big", "one_on_small"));
}

// Certain, but too small to matter: still a tie.
TEST_F(DecisionTest, ADifferenceWithinTheMarginDoesNotDecide) {
  add("plain", blocks(101, 0.01), 0);
  add("fancy", blocks(100, 0.01, 1), 2);
  EXPECT_EQ(decide_all().configuration, "plain");
  EXPECT_EQ(decide_all(0.001).kind, VerdictKind::kWinner);
  EXPECT_EQ(decide_all(0.001).configuration, "fancy");
}

TEST_F(DecisionTest, NoiseIsInsufficientAndSaysHowMuchMoreItTakes) {
  add("a", blocks(100, 10));
  add("b", blocks(104, 10, 1));
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kInsufficient);
  EXPECT_EQ(verdict.configuration, "");
  EXPECT_EQ(verdict.leading, "a");
  EXPECT_THAT(verdict.contenders, ElementsAre("a", "b"));
  ASSERT_THAT(kinds(verdict), ElementsAre(ReasonKind::kUnresolvedRival));
  EXPECT_GT(*verdict.reasons[0].n_needed, 5);
}

TEST_F(DecisionTest, OneBlockDecidesNothing) {
  add("a", {{0, 1}});
  add("b", {{0, 1000}});
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kInsufficient);
  EXPECT_THAT(kinds(verdict), ElementsAre(ReasonKind::kFewBlocks));
}

TEST_F(DecisionTest, GatesBarWhatBreaksThem) {
  add("fast", blocks(50, 1));
  add("slow", blocks(100, 1, 1));
  add("slower", blocks(120, 1, 2));
  gate("fast", ConstraintState::kViolated);
  gate("slow", ConstraintState::kNotShown);
  gate("slower", ConstraintState::kMet);
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kWinner);
  EXPECT_EQ(verdict.configuration, "slow");
  EXPECT_THAT(kinds(verdict), ElementsAre(ReasonKind::kGateViolated, ReasonKind::kGateNotShown,
                                          ReasonKind::kBeatsRival));
  gate("slow", ConstraintState::kUnmeasured);
  gate("slower", ConstraintState::kViolated);
  EXPECT_EQ(decide_all().kind, VerdictKind::kBlocked);
  EXPECT_EQ(decide_all().configuration, "");
}

TEST_F(DecisionTest, FailedAndUnmeasuredConfigurationsDoNotCompete) {
  add("failed", blocks(10, 1));
  add("unmeasured", {});
  add("a", blocks(100, 1, 1));
  candidates_[0].failed = true;
  candidates_[1].objective_samples = 0;
  const Verdict verdict = decide_all();
  EXPECT_EQ(verdict.kind, VerdictKind::kInsufficient);
  EXPECT_EQ(verdict.leading, "a");
  EXPECT_THAT(kinds(verdict),
              ElementsAre(ReasonKind::kConfigurationFailed, ReasonKind::kObjectiveUnmeasured,
                          ReasonKind::kOnlyCandidate));
}

TEST_F(DecisionTest, APercentileNeedsItsSamples) {
  add("fast", blocks(50, 1));
  add("slow", blocks(100, 1, 1));
  decide_all();
  objective_.reference.statistic = "p99";
  contrasts_[0].reference = objective_.reference;
  Verdict verdict = decide({objective_, candidates_, contrasts_, {}, {}, 0.05});
  EXPECT_EQ(verdict.kind, VerdictKind::kInsufficient);
  EXPECT_THAT(kinds(verdict), ElementsAre(ReasonKind::kFewSamples, ReasonKind::kFewSamples));
  EXPECT_EQ(verdict.reasons[0].n_needed, 299);
  for (Candidate& candidate : candidates_) candidate.objective_samples = 299;
  verdict = decide({objective_, candidates_, contrasts_, {}, {}, 0.05});
  EXPECT_EQ(verdict.configuration, "fast");
}

// --- Gates.
TrialRecord trial_of(int block, int requests, int failed, int64_t ttft_ms) {
  TrialRecord trial;
  trial.id = "t" + std::to_string(block);
  trial.scenario = "conversation";
  trial.configuration = "a";
  trial.block = block;
  for (int i = 0; i < requests; ++i) {
    RequestRecord request;
    request.index = i;
    request.first_token_ns = ttft_ms * 1'000'000;
    request.last_token_ns = request.end_ns = request.first_token_ns;
    request.output_tokens = 1;
    if (i < failed) request.status = RequestStatus::kError;
    trial.requests.push_back(request);
  }
  return trial;
}

ConstraintResult check(const std::vector<TrialRecord>& trials, const MetricReference& reference,
                       Relation relation, double bound) {
  StudySpec spec;
  spec.configurations.push_back({"a", {}, {}, {}});
  spec.scenarios.push_back({"conversation", {}});
  return check_constraint({reference, relation, bound}, "a", Measurements(spec, trials));
}

TEST(Gate, StatesAFailureRateOnlyAsFarAsTheSampleGoes) {
  const MetricReference rate{"", "error_rate", "mean"};
  // 65 of 65: observed 0%, but only "below 4.5%" is shown.
  const ConstraintResult small = check({trial_of(0, 65, 0, 10)}, rate, Relation::kAtMost, 0.01);
  EXPECT_EQ(small.state, ConstraintState::kNotShown);
  EXPECT_NEAR(*small.bound_shown, 0.045, 0.0005);
  EXPECT_EQ(small.n, 65);
  EXPECT_EQ(small.n_needed, 299);
  EXPECT_EQ(check({trial_of(0, 65, 0, 10)}, rate, Relation::kAtMost, 0.05).state,
            ConstraintState::kMet);
  EXPECT_EQ(check({trial_of(0, 299, 0, 10)}, rate, Relation::kAtMost, 0.01).state,
            ConstraintState::kMet);
  EXPECT_EQ(check({trial_of(0, 298, 0, 10)}, rate, Relation::kAtMost, 0.01).state,
            ConstraintState::kNotShown);
  EXPECT_EQ(check({trial_of(0, 65, 1, 10)}, rate, Relation::kAtMost, 0.01).state,
            ConstraintState::kViolated);
  EXPECT_EQ(check({}, rate, Relation::kAtMost, 0.01).state, ConstraintState::kUnmeasured);
  // Nothing finite shows a rate of exactly zero.
  EXPECT_EQ(check({trial_of(0, 65, 0, 10)}, rate, Relation::kAtMost, 0).n_needed, 0);
}

TEST(Gate, ATailNeedsFourHundredAndFiftyNineRequests) {
  const MetricReference p99{"conversation", "ttft_ms", "p99"};
  const ConstraintResult short_of_one =
      check({trial_of(0, 458, 0, 10)}, p99, Relation::kAtMost, 20);
  EXPECT_EQ(short_of_one.state, ConstraintState::kNotShown);
  EXPECT_EQ(short_of_one.n_needed, 459);
  const ConstraintResult enough = check({trial_of(0, 459, 0, 10)}, p99, Relation::kAtMost, 20);
  EXPECT_EQ(enough.state, ConstraintState::kMet);
  EXPECT_EQ(*enough.bound_shown, 10);
  EXPECT_EQ(check({trial_of(0, 459, 0, 30)}, p99, Relation::kAtMost, 20).state,
            ConstraintState::kViolated);
}

TEST(Gate, AMedianAtLeastIsShownByFewSamples) {
  const MetricReference p50{"conversation", "ttft_ms", "p50"};
  EXPECT_EQ(check({trial_of(0, 7, 0, 10)}, p50, Relation::kAtLeast, 5).state, ConstraintState::kMet);
  EXPECT_EQ(check({trial_of(0, 6, 0, 10)}, p50, Relation::kAtLeast, 5).state,
            ConstraintState::kNotShown);
  EXPECT_EQ(check({trial_of(0, 7, 0, 10)}, p50, Relation::kAtLeast, 11).state,
            ConstraintState::kViolated);
}

TEST(Gate, LeavesInvalidTrialsOut) {
  TrialRecord invalid = trial_of(1, 10, 10, 10);
  invalid.validity.valid = false;
  const MetricReference rate{"", "error_rate", "mean"};
  EXPECT_EQ(check({trial_of(0, 65, 0, 10), invalid}, rate, Relation::kAtMost, 0.05).state,
            ConstraintState::kMet);
}

TEST(Gate, TakesTheLargestAsObservedAndAMeanByItsInterval) {
  std::vector<TrialRecord> trials;
  for (int block = 0; block < 4; ++block) {
    trials.push_back(trial_of(block, 5, 0, 10));
    trials.back().memory = {{0, (90 + block) << 20, 100 << 20, kUnset}};
  }
  const MetricReference largest{"", "device_memory_share", "max"};
  EXPECT_EQ(check(trials, largest, Relation::kAtMost, 0.93).state, ConstraintState::kMet);
  EXPECT_EQ(check(trials, largest, Relation::kAtMost, 0.92).state, ConstraintState::kViolated);
  const MetricReference average{"", "device_memory_share", "mean"};
  EXPECT_EQ(check(trials, average, Relation::kAtMost, 0.92).state, ConstraintState::kNotShown);
  EXPECT_EQ(check(trials, average, Relation::kAtMost, 0.95).state, ConstraintState::kMet);
}

}  // namespace
}  // namespace crible::study
