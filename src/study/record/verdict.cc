#include "study/record/verdict.h"

namespace crible::study {

const char* to_string(VerdictKind kind) {
  switch (kind) {
    case VerdictKind::kWinner: return "winner";
    case VerdictKind::kTie: return "tie";
    case VerdictKind::kInsufficient: return "insufficient";
    case VerdictKind::kBlocked: return "blocked";
  }
  return "insufficient";
}

const char* to_string(ConstraintState state) {
  switch (state) {
    case ConstraintState::kMet: return "met";
    case ConstraintState::kNotShown: return "not_shown";
    case ConstraintState::kViolated: return "violated";
    case ConstraintState::kUnmeasured: return "unmeasured";
  }
  return "unmeasured";
}

const char* to_string(ReasonKind kind) {
  switch (kind) {
    case ReasonKind::kBeatsRival: return "beats_rival";
    case ReasonKind::kEquivalentRival: return "equivalent_rival";
    case ReasonKind::kUnresolvedRival: return "unresolved_rival";
    case ReasonKind::kGateViolated: return "gate_violated";
    case ReasonKind::kGateNotShown: return "gate_not_shown";
    case ReasonKind::kGateUnmeasured: return "gate_unmeasured";
    case ReasonKind::kConfigurationFailed: return "configuration_failed";
    case ReasonKind::kObjectiveUnmeasured: return "objective_unmeasured";
    case ReasonKind::kFewSamples: return "few_samples";
    case ReasonKind::kFewBlocks: return "few_blocks";
    case ReasonKind::kOnlyCandidate: return "only_candidate";
    case ReasonKind::kSimplest: return "simplest";
  }
  return "unresolved_rival";
}

const char* to_string(EffectKind kind) {
  return kind == EffectKind::kRatio ? "ratio" : "difference";
}

}  // namespace crible::study
