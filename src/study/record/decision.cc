#include "study/record/decision.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "study/record/contrast.h"

namespace crible::study {
namespace {

class Decision {
 public:
  explicit Decision(const DecisionInput& input)
      : input_(input), metric_(*find_metric(input.objective.reference.metric)) {
    verdict_.objective = input.objective.name;
    verdict_.reference = input.objective.reference;
    verdict_.sense = input.objective.sense;
  }

  Verdict make() {
    admit();
    if (eligible_.empty()) {
      verdict_.kind = gated_ ? VerdictKind::kBlocked : VerdictKind::kInsufficient;
      return std::move(verdict_);
    }
    verdict_.leading = find_leading()->name;
    if (eligible_.size() == 1) {
      // Nobody to beat: a proposal by default, which is not a win.
      reason(ReasonKind::kOnlyCandidate, verdict_.leading);
      verdict_.contenders = {verdict_.leading};
      verdict_.kind = VerdictKind::kInsufficient;
      return std::move(verdict_);
    }
    if (too_few_samples()) {
      for (const Candidate* candidate : eligible_) verdict_.contenders.push_back(candidate->name);
      verdict_.kind = VerdictKind::kInsufficient;
      return std::move(verdict_);
    }
    judge_rivals();
    return std::move(verdict_);
  }

 private:
  VerdictReason& reason(ReasonKind kind, const std::string& configuration,
                        const std::string& rival = {}) {
    VerdictReason& added = verdict_.reasons.emplace_back();
    added.kind = kind;
    added.configuration = configuration;
    added.rival = rival;
    return added;
  }

  // Failures first, then gates, then whether there is anything to compare.
  void admit() {
    for (const Candidate& candidate : input_.candidates) {
      if (candidate.failed) {
        reason(ReasonKind::kConfigurationFailed, candidate.name);
      } else if (!passes_gates(candidate)) {
        gated_ = true;
      } else if (candidate.objective_samples == 0) {
        reason(ReasonKind::kObjectiveUnmeasured, candidate.name);
      } else {
        eligible_.push_back(&candidate);
      }
    }
  }

  bool passes_gates(const Candidate& candidate) {
    bool passes = true;
    for (const int index : input_.constraint_indices) {
      const ConstraintResult& result = input_.constraints[static_cast<size_t>(index)];
      if (result.configuration != candidate.name || result.state == ConstraintState::kMet) continue;
      const ReasonKind kind = result.state == ConstraintState::kViolated ? ReasonKind::kGateViolated
                              : result.state == ConstraintState::kNotShown
                                  ? ReasonKind::kGateNotShown
                                  : ReasonKind::kGateUnmeasured;
      VerdictReason& added = reason(kind, candidate.name);
      added.constraint = index;
      added.n = result.n;
      if (result.n_needed > 0) added.n_needed = result.n_needed;
      // Observed to hold but not yet shown is a caveat, not a bar.
      if (kind != ReasonKind::kGateNotShown) passes = false;
    }
    return passes;
  }

  // Index in contrasts of the pair, in either orientation.
  std::optional<int> pair_index(const std::string& a, const std::string& b) const {
    for (size_t i = 0; i < input_.contrasts.size(); ++i) {
      const Contrast& contrast = input_.contrasts[i];
      const bool same_pair = (contrast.a == a && contrast.b == b) ||
                             (contrast.a == b && contrast.b == a);
      if (same_pair && contrast.reference == input_.objective.reference) return static_cast<int>(i);
    }
    return std::nullopt;
  }

  const Contrast* pair(const std::string& a, const std::string& b) const {
    const std::optional<int> index = pair_index(a, b);
    return index ? &input_.contrasts[static_cast<size_t>(*index)] : nullptr;
  }

  // +1 when `name` is ahead of `rival`.
  int ahead(const std::string& name, const std::string& rival) const {
    const Contrast* contrast = pair(name, rival);
    if (contrast == nullptr || contrast->blocks == 0) return 0;
    const int side = better_side(*contrast, metric_.direction);
    return contrast->a == name ? side : -side;
  }

  // Ahead of the most rivals by point estimate; the spec's order breaks ties.
  const Candidate* find_leading() const {
    const Candidate* best = nullptr;
    int best_score = 0;
    for (const Candidate* candidate : eligible_) {
      int score = 0;
      for (const Candidate* rival : eligible_) {
        if (rival != candidate) score += ahead(candidate->name, rival->name);
      }
      if (best == nullptr || score > best_score) {
        best = candidate;
        best_score = score;
      }
    }
    return best;
  }

  bool too_few_samples() {
    const std::optional<double> rank = percentile_rank(input_.objective.reference.statistic);
    if (!rank || metric_.grain == MetricGrain::kTrial) return false;
    const int64_t needed = samples_needed(std::max(*rank, 1 - *rank), 0.95);
    bool few = false;
    for (const Candidate* candidate : eligible_) {
      if (candidate->objective_samples >= needed) continue;
      VerdictReason& added = reason(ReasonKind::kFewSamples, candidate->name);
      added.n = candidate->objective_samples;
      added.n_needed = needed;
      few = true;
    }
    return few;
  }

  enum class Standing { kBeaten, kEquivalent, kUnresolved };

  Standing judge(const std::string& rival) {
    const std::string& leading = verdict_.leading;
    const std::optional<int> index = pair_index(leading, rival);
    const Contrast* contrast = pair(leading, rival);
    if (contrast == nullptr || contrast->blocks < 2) {
      VerdictReason& added = reason(ReasonKind::kFewBlocks, leading, rival);
      added.contrast = index;
      added.n = contrast == nullptr ? 0 : contrast->blocks;
      added.n_needed = 2;
      return Standing::kUnresolved;
    }
    // Equivalence first: a difference that is certain but does not matter is no reason to prefer the
    // more complicated configuration.
    if (contrast->equivalent) {
      reason(ReasonKind::kEquivalentRival, leading, rival).contrast = index;
      return Standing::kEquivalent;
    }
    if (contrast->decided && ahead(leading, rival) > 0) {
      reason(ReasonKind::kBeatsRival, leading, rival).contrast = index;
      return Standing::kBeaten;
    }
    VerdictReason& added = reason(ReasonKind::kUnresolvedRival, leading, rival);
    added.contrast = index;
    added.n = contrast->blocks;
    added.n_needed = blocks_needed(*contrast, input_.margin);
    return Standing::kUnresolved;
  }

  void judge_rivals() {
    std::vector<const Candidate*> contenders;
    bool unresolved = false;
    for (const Candidate* candidate : eligible_) {
      if (candidate->name == verdict_.leading) {
        contenders.push_back(candidate);
        continue;
      }
      const Standing standing = judge(candidate->name);
      if (standing != Standing::kBeaten) contenders.push_back(candidate);
      unresolved |= standing == Standing::kUnresolved;
    }
    for (const Candidate* candidate : contenders) verdict_.contenders.push_back(candidate->name);
    if (unresolved) {
      verdict_.kind = VerdictKind::kInsufficient;
    } else if (contenders.size() == 1) {
      verdict_.kind = VerdictKind::kWinner;
      verdict_.configuration = verdict_.leading;
    } else {
      verdict_.kind = VerdictKind::kTie;
      verdict_.configuration = simplest(contenders)->name;
      reason(ReasonKind::kSimplest, verdict_.configuration);
    }
  }

  static const Candidate* simplest(const std::vector<const Candidate*>& contenders) {
    return *std::ranges::min_element(contenders, {}, [](const Candidate* candidate) {
      return std::tuple(candidate->features_on, candidate->device_memory_mib);
    });
  }

  const DecisionInput& input_;
  const MetricInfo& metric_;
  Verdict verdict_;
  std::vector<const Candidate*> eligible_;
  bool gated_ = false;
};

}  // namespace

Verdict decide(const DecisionInput& input) {
  CHECK(find_metric(input.objective.reference.metric) != nullptr);
  return Decision(input).make();
}

}  // namespace crible::study
