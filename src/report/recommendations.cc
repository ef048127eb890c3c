#include <algorithm>

#include "report/sections.h"
#include "report/verdict_wording.h"
#include "study/record/scenario_table.h"

namespace crible::report {
namespace {

// Use cases that operators ask for and that need a scenario of their own.
struct ExpectedUseCase {
  const char* objective;
  const char* scenario;
  const char* anchor;
  Phrase needs;
};
constexpr ExpectedUseCase kExpected[] = {
    {"conversational_agents", "conversation", "unmeasured-conversation", Phrase::kNeedsConversation},
    {"complex_reasoning", "reasoning", "unmeasured-reasoning", Phrase::kNeedsReasoning},
    {"tool_calling", "tool_calling", "unmeasured-tool-calling", Phrase::kNeedsToolCalling},
    {"long_context", "long_context", "unmeasured-long-context", Phrase::kNeedsLongContext},
};

List justification(const ReportContext& context, const study::Verdict& verdict) {
  List list;
  for (const study::VerdictReason& reason : verdict.reasons) {
    const bool for_it =
        reason.kind == study::ReasonKind::kBeatsRival || reason.kind == study::ReasonKind::kSimplest;
    const bool against =
        reason.kind == study::ReasonKind::kGateViolated || reason.kind == study::ReasonKind::kGateNotShown ||
        reason.kind == study::ReasonKind::kGateUnmeasured || reason.kind == study::ReasonKind::kFewSamples ||
        reason.kind == study::ReasonKind::kFewBlocks || reason.kind == study::ReasonKind::kUnresolvedRival;
    list.items.push_back({for_it    ? Mark::kStrength
                          : against ? Mark::kWeakness
                                    : Mark::kRemark,
                          reason_sentence(context, verdict, reason)});
  }
  return list;
}

// The rivals by their point estimate of the criterion, best first: what to take if the proposed
// one cannot be used.
std::vector<Inline> alternatives(const ReportContext& context, const study::Verdict& verdict) {
  struct Candidate {
    const study::ConfigurationResult* configuration;
    double value;
  };
  std::vector<Candidate> candidates;
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    if (configuration.name == verdict.configuration) continue;
    const bool gated =
        std::any_of(verdict.reasons.begin(), verdict.reasons.end(), [&](const study::VerdictReason& reason) {
          return reason.configuration == configuration.name && reason.constraint.has_value();
        });
    const study::MetricSummary* summary = find_summary(configuration, verdict.reference);
    if (gated || summary == nullptr) continue;
    if (const auto value = statistic_of(*summary, verdict.reference.statistic)) {
      candidates.push_back({&configuration, *value});
    }
  }
  const bool minimise = verdict.sense == study::Sense::kMinimise;
  std::stable_sort(candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
    return minimise ? a.value < b.value : a.value > b.value;
  });
  std::vector<Inline> words;
  for (const Candidate& candidate : candidates) {
    Inline item = configuration_link(context.study, candidate.configuration->name);
    item.push_back(text(" (" + context.scribe.amount(verdict.reference.metric, candidate.value) + ")"));
    words.push_back(std::move(item));
    if (words.size() == 3) break;
  }
  return words;
}

Section build_measured(const ReportContext& context, const study::Verdict& verdict, size_t number) {
  const Scribe& scribe = context.scribe;
  Section section{"use-case-" + std::to_string(number), scribe.objective_label(verdict.objective), {}, {}};
  section.blocks.push_back(Callout{verdict_tone(verdict.kind),
                                   {text(verdict_label(scribe, verdict.kind))},
                                   {verdict_sentence(context, verdict)}});
  if (!verdict.reasons.empty()) {
    section.blocks.push_back(Heading{scribe.say(Phrase::kJustification)});
    section.blocks.push_back(justification(context, verdict));
  }
  const std::vector<Inline> others = alternatives(context, verdict);
  if (!others.empty()) {
    section.blocks.push_back(
        Paragraph{scribe.compose(verdict.configuration.empty() ? Phrase::kCandidates : Phrase::kAlternatives,
                                 {scribe.enumerate(others)})});
  }
  return section;
}

Section build_unmeasured(const ReportContext& context, const ExpectedUseCase& expected) {
  const Scribe& scribe = context.scribe;
  const bool known = study::find_scenario(expected.scenario) != nullptr;
  Section section{expected.anchor, scribe.objective_label(expected.objective), {}, {}};
  section.blocks.push_back(Callout{
      Tone::kMuted,
      {text(scribe.say(Phrase::kNotMeasuredHere))},
      {scribe.compose(known ? Phrase::kAddScenario : Phrase::kScenarioMissing, {{code(expected.scenario)}}),
       {text(scribe.say(expected.needs))}}});
  return section;
}

}  // namespace

Section build_recommendations(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"recommendations", scribe.say(Phrase::kSectionRecommendations), {}, {}};
  if (context.study.verdicts.empty()) {
    section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kNoObjectives))}});
  }
  for (size_t i = 0; i < context.study.verdicts.size(); ++i) {
    section.children.push_back(build_measured(context, context.study.verdicts[i], i + 1));
  }
  for (const ExpectedUseCase& expected : kExpected) {
    if (!has_scenario(context.study, expected.scenario)) {
      section.children.push_back(build_unmeasured(context, expected));
    }
  }
  return section;
}

}  // namespace crible::report
