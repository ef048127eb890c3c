// Comparison of configurations and the decision per use case. A winner needs simultaneous
// intervals that exclude every rival; equivalent ones tie and the simplest is proposed; anything
// else is insufficient, or blocked by a gate. Reasons are typed values; the report words them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "study/record/spec.h"
#include "study/record/statistics.h"

namespace crible::study {

enum class EffectKind { kRatio, kDifference };

// How configuration `a` compares with `b`, paired within blocks. The effect is a / b (ratio, from
// the mean of log ratios) or a - b (difference, for metrics that may be zero or negative).
struct Contrast {
  MetricReference reference;
  std::vector<std::string> objectives;  // use cases that it decides; none: descriptive only
  std::string a;
  std::string b;
  EffectKind kind = EffectKind::kRatio;
  int blocks = 0;    // pairs
  double effect = 1;
  double block_sd = 0;  // of the log ratios (or differences) over blocks
  double level = 0;     // mean size of the values compared
  double alpha = 0;     // two-sided error rate of `simultaneous`
  std::optional<Interval> ci95;          // of this contrast alone; absent below two blocks
  std::optional<Interval> simultaneous;  // at the level that its family holds it to
  std::optional<double> p;
  // Over its family: for a contrast that serves an objective, the winner claims of the whole study
  // (hold_to_winner_family in contrast.h); for a descriptive one, Holm over all pairs of its metric.
  std::optional<double> adjusted_p;
  bool decided = false;     // adjusted_p <= 0.05: the simultaneous interval excludes "no effect"
  bool equivalent = false;  // the 90% interval lies within the equivalence margin
};

enum class ConstraintState {
  kMet,       // shown by the sample
  kNotShown,  // observed to hold, but the sample is too small to show it
  kViolated,  // observed not to hold
  kUnmeasured,
};

struct ConstraintResult {
  ConstraintSpec constraint;
  std::string configuration;
  ConstraintState state = ConstraintState::kUnmeasured;
  std::optional<double> observed;
  std::optional<double> bound_shown;  // what the sample does show, at `confidence`
  double confidence = 0.95;           // one-sided
  int64_t n = 0;
  int64_t n_needed = 0;  // for kNotShown: samples without a violation that would show it
};

enum class VerdictKind { kWinner, kTie, kInsufficient, kBlocked };

enum class ReasonKind {
  kBeatsRival,           // configuration beats rival; contrast index given
  kEquivalentRival,      // configuration and rival lie within the margin; contrast index
  kUnresolvedRival,      // neither; contrast index; blocks_needed may be given
  kGateViolated,         // constraint index
  kGateNotShown,         // constraint index
  kGateUnmeasured,       // constraint index: the gate could not be checked, so it blocks
  kConfigurationFailed,  // it has a failure on record, so it is no candidate
  kObjectiveUnmeasured,  // the configuration has no value of the metric (feature off, failed)
  kFewSamples,           // percentile asked for needs n_needed samples per configuration, has n
  kFewBlocks,            // fewer than two common blocks
  kOnlyCandidate,        // nothing left to compare with
  kSimplest,             // proposed among equals: fewest features, least memory
};

struct VerdictReason {
  ReasonKind kind = ReasonKind::kUnresolvedRival;
  std::string configuration;
  std::string rival;                // empty where there is none
  std::optional<int> contrast;      // index in StudyResult::contrasts
  std::optional<int> constraint;    // index in StudyResult::constraints
  std::optional<int64_t> n;
  std::optional<int64_t> n_needed;  // samples, or blocks for kUnresolvedRival
};

struct Verdict {
  std::string objective;
  MetricReference reference;
  Sense sense = Sense::kMinimise;
  VerdictKind kind = VerdictKind::kInsufficient;
  // Winner; or the simplest of a tie. Empty when insufficient or blocked.
  std::string configuration;
  // Best point estimate among those that passed the gates; empty when none did.
  std::string leading;
  std::vector<std::string> contenders;  // leading and all that it does not beat
  std::vector<VerdictReason> reasons;
};

const char* to_string(VerdictKind kind);      // "winner", "tie", "insufficient", "blocked"
const char* to_string(ConstraintState state);
const char* to_string(ReasonKind kind);
const char* to_string(EffectKind kind);

}  // namespace crible::study
