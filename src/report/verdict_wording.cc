#include "report/verdict_wording.h"

#include <algorithm>

namespace crible::report {
namespace {

// "TTFT (HIT) −54% [−57% – −50%]", seen from the reason's configuration.
Inline comparison_text(const ReportContext& context, const study::VerdictReason& reason) {
  const auto count = static_cast<int>(context.study.contrasts.size());
  if (!reason.contrast || *reason.contrast < 0 || *reason.contrast >= count) return {text(kNotMeasured)};
  const study::Contrast& contrast = context.study.contrasts[static_cast<size_t>(*reason.contrast)];
  Inline words = {text(context.scribe.metric_label(contrast.reference.metric) + " ")};
  append(words, context.scribe.effect(contrast.reference, seen_from(contrast, reason.configuration)));
  return words;
}

Inline gate_sentence(const ReportContext& context, const study::VerdictReason& reason) {
  const Inline name = configuration_link(context.study, reason.configuration);
  const auto count = static_cast<int>(context.study.constraints.size());
  Inline state = {text(kNotMeasured)};
  if (reason.constraint && *reason.constraint >= 0 && *reason.constraint < count) {
    state = constraint_sentence(context.scribe,
                                context.study.constraints[static_cast<size_t>(*reason.constraint)]);
  }
  return context.scribe.compose(Phrase::kReasonGate, {name, state});
}

std::string optional_integer(const Scribe& scribe, const std::optional<int64_t>& value) {
  return value ? scribe.numbers().integer(*value) : kNotMeasured;
}

}  // namespace

std::string verdict_label(const Scribe& scribe, study::VerdictKind kind) {
  switch (kind) {
    case study::VerdictKind::kWinner: return scribe.say(Phrase::kVerdictWinner);
    case study::VerdictKind::kTie: return scribe.say(Phrase::kVerdictTie);
    case study::VerdictKind::kInsufficient: return scribe.say(Phrase::kVerdictInsufficient);
    case study::VerdictKind::kBlocked: return scribe.say(Phrase::kVerdictBlocked);
  }
  return "";
}

Tone verdict_tone(study::VerdictKind kind) {
  switch (kind) {
    case study::VerdictKind::kWinner: return Tone::kGood;
    case study::VerdictKind::kTie: return Tone::kInfo;
    case study::VerdictKind::kInsufficient: return Tone::kWarning;
    case study::VerdictKind::kBlocked: return Tone::kBad;
  }
  return Tone::kPlain;
}

std::string criterion(const Scribe& scribe, const study::Verdict& verdict) {
  return scribe.say(
      verdict.sense == study::Sense::kMinimise ? Phrase::kCriterionLowest : Phrase::kCriterionHighest,
      {scribe.reference_label(verdict.reference)});
}

Inline verdict_sentence(const ReportContext& context, const study::Verdict& verdict) {
  const Scribe& scribe = context.scribe;
  const Inline criterion_words = {text(criterion(scribe, verdict))};
  const Inline name = configuration_link(context.study, verdict.configuration);
  switch (verdict.kind) {
    case study::VerdictKind::kWinner: return scribe.compose(Phrase::kSentenceWinner, {name, criterion_words});
    case study::VerdictKind::kTie:
      return scribe.compose(Phrase::kSentenceTie,
                            {name, criterion_words, code_list(scribe, verdict.contenders)});
    case study::VerdictKind::kInsufficient:
      return verdict.contenders.size() < 2
                 ? scribe.compose(Phrase::kSentenceInsufficientAlone, {criterion_words})
                 : scribe.compose(Phrase::kSentenceInsufficient,
                                  {criterion_words, code_list(scribe, verdict.contenders)});
    case study::VerdictKind::kBlocked: return scribe.compose(Phrase::kSentenceBlocked, {criterion_words});
  }
  return {};
}

Inline reason_sentence(const ReportContext& context, const study::Verdict& verdict,
                       const study::VerdictReason& reason) {
  const Scribe& scribe = context.scribe;
  const Inline name = configuration_link(context.study, reason.configuration);
  const Inline rival = configuration_link(context.study, reason.rival);
  const Inline needed = {text(optional_integer(scribe, reason.n_needed))};
  const Inline metric = {text(scribe.reference_label(verdict.reference))};
  switch (reason.kind) {
    case study::ReasonKind::kBeatsRival:
      return scribe.compose(Phrase::kReasonBeats, {name, rival, comparison_text(context, reason)});
    case study::ReasonKind::kEquivalentRival:
      return scribe.compose(Phrase::kReasonEquivalent,
                            {name,
                             rival,
                             comparison_text(context, reason),
                             {text(scribe.numbers().percent(context.study.spec.equivalence_margin))}});
    case study::ReasonKind::kUnresolvedRival: {
      Inline words =
          scribe.compose(Phrase::kReasonUnresolved, {name, rival, comparison_text(context, reason)});
      if (reason.n_needed) append(words, scribe.compose(Phrase::kReasonBlocksNeeded, {needed}));
      return words;
    }
    case study::ReasonKind::kGateViolated:
    case study::ReasonKind::kGateNotShown:
    case study::ReasonKind::kGateUnmeasured: return gate_sentence(context, reason);
    case study::ReasonKind::kConfigurationFailed:
      return scribe.compose(Phrase::kReasonConfigurationFailed, {name});
    case study::ReasonKind::kObjectiveUnmeasured:
      return scribe.compose(Phrase::kReasonObjectiveUnmeasured, {name, metric});
    case study::ReasonKind::kFewSamples:
      return scribe.compose(Phrase::kReasonFewSamples,
                            {metric, needed, {text(optional_integer(scribe, reason.n))}});
    case study::ReasonKind::kFewBlocks: return scribe.compose(Phrase::kReasonFewBlocks, {});
    case study::ReasonKind::kOnlyCandidate: return scribe.compose(Phrase::kReasonOnlyCandidate, {name});
    case study::ReasonKind::kSimplest: return scribe.compose(Phrase::kReasonSimplest, {name});
  }
  return {};
}

std::string constraint_text(const Scribe& scribe, const study::ConstraintSpec& constraint) {
  const char* relation = constraint.relation == study::Relation::kAtMost ? "\u2264" : "\u2265";
  return scribe.reference_label(constraint.reference) + " " + relation + " " +
         scribe.amount(constraint.reference.metric, constraint.bound);
}

Inline constraint_sentence(const Scribe& scribe, const study::ConstraintResult& result) {
  const std::string& metric = result.constraint.reference.metric;
  const Inline gate = {strong(constraint_text(scribe, result.constraint))};
  const Inline observed = {text(scribe.amount(metric, result.observed))};
  const Inline n = {text(scribe.numbers().integer(result.n))};
  const Inline bound = {text(scribe.amount(metric, result.bound_shown))};
  switch (result.state) {
    case study::ConstraintState::kMet:
      return result.bound_shown ? scribe.compose(Phrase::kGateMetBound, {gate, observed, bound, n})
                                : scribe.compose(Phrase::kGateMet, {gate, observed, n});
    case study::ConstraintState::kNotShown: {
      const Inline confidence = {text(scribe.numbers().percent(result.confidence))};
      const Inline needed = {text(scribe.numbers().integer(result.n_needed))};
      return scribe.compose(Phrase::kGateNotShown, {gate, observed, bound, n, confidence, needed});
    }
    case study::ConstraintState::kViolated: return scribe.compose(Phrase::kGateViolated, {gate, observed, n});
    case study::ConstraintState::kUnmeasured: return scribe.compose(Phrase::kGateUnmeasured, {gate});
  }
  return {};
}

Cell conclusion_cell(const Scribe& scribe, const study::Contrast& contrast) {
  if (shown_side(contrast)) return {{text(scribe.say(Phrase::kConclusionShown))}, Tone::kGood};
  const Phrase phrase = contrast.equivalent ? Phrase::kConclusionEquivalent : Phrase::kConclusionOpen;
  return {{text(scribe.say(phrase))}, Tone::kMuted};
}

std::vector<const study::ConstraintResult*> distinct_constraints(const study::StudyResult& study,
                                                                 const std::string& configuration) {
  std::vector<const study::ConstraintResult*> distinct;
  for (const study::ConstraintResult& result : study.constraints) {
    if (result.configuration != configuration) continue;
    const bool known =
        std::any_of(distinct.begin(), distinct.end(), [&](const study::ConstraintResult* other) {
          return other->constraint.reference == result.constraint.reference &&
                 other->constraint.relation == result.constraint.relation &&
                 other->constraint.bound == result.constraint.bound;
        });
    if (!known) distinct.push_back(&result);
  }
  return distinct;
}

}  // namespace crible::report
