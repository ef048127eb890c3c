#include "report/sections.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

std::string p_value(const NumberFormat& numbers, const std::optional<double>& p) {
  if (!p) return kNotMeasured;
  return *p < 0.001 ? "< " + numbers.fixed(0.001, 3) : numbers.fixed(*p, 3);
}

Section contrasts(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-contrasts", scribe.say(Phrase::kAnnexContrasts), {}, {}};
  section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kContrastsLead))}});
  Table table;
  table.columns = {
      {scribe.say(Phrase::kMetric)},
      {scribe.say(Phrase::kContrastA)},
      {scribe.say(Phrase::kContrastB)},
      {scribe.say(Phrase::kEffect) + " [" + scribe.say(Phrase::kInterval95) + "]", Align::kRight},
      {scribe.say(Phrase::kAdjustedP), Align::kRight},
      {scribe.say(Phrase::kBlocks), Align::kRight},
      {scribe.say(Phrase::kConclusion)}};
  for (const study::Contrast& contrast : context.study.contrasts) {
    table.rows.push_back({{{text(scribe.reference_label(contrast.reference))}},
                          {{code(contrast.a)}},
                          {{code(contrast.b)}},
                          {scribe.effect(contrast.reference, seen_from(contrast, contrast.a))},
                          {{text(p_value(scribe.numbers(), contrast.adjusted_p))}},
                          {{text(scribe.numbers().integer(contrast.blocks))}},
                          conclusion_cell(scribe, contrast)});
  }
  if (table.rows.empty()) {
    section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kNoContrasts))}});
  } else {
    section.blocks.push_back(std::move(table));
  }
  return section;
}

Section gates(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-gates", scribe.say(Phrase::kAnnexGates), {}, {}};
  List list;
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    for (const study::ConstraintResult* gate : distinct_constraints(context.study, configuration.name)) {
      Inline words = configuration_link(context.study, configuration.name);
      words.push_back(text(" \u00b7 "));
      append(words, constraint_sentence(scribe, *gate));
      const bool met = gate->state == study::ConstraintState::kMet;
      list.items.push_back({met ? Mark::kStrength : Mark::kWeakness, std::move(words)});
    }
  }
  if (list.items.empty()) list.items.push_back({Mark::kRemark, {text(scribe.say(Phrase::kNoGates))}});
  section.blocks.push_back(std::move(list));
  return section;
}

std::string joined_lines(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

Section failures(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-failures", scribe.say(Phrase::kAnnexFailures), {}, {}};
  if (context.study.failures.empty()) {
    section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kNoFailures))}});
  }
  for (const study::FailureRecord& failure : context.study.failures) {
    Callout callout{
        Tone::kBad,
        scribe.compose(Phrase::kFailureTitle,
                       {{code(failure.configuration.empty() ? kNotMeasured : failure.configuration)},
                        {text(scribe.cause_label(failure.cause))},
                        {text(scribe.phase_label(failure.phase))}}),
        {{text(failure.message)}}};
    if (!failure.trial_id.empty())
      callout.lines.push_back(scribe.compose(Phrase::kFailureTrial, {{code(failure.trial_id)}}));
    section.blocks.push_back(std::move(callout));
    if (!failure.evidence.empty())
      section.blocks.push_back(CodeBlock{"text", joined_lines(failure.evidence)});
  }
  for (const study::StudyEvent& event : context.study.events) {
    if (event.kind != "gpu_busy") continue;
    section.blocks.push_back(
        Callout{Tone::kWarning, {text(scribe.say(Phrase::kGpuBusy))}, {{text(event.detail)}}});
  }
  if (context.study.invalid_trials.empty()) return section;
  Table table;
  table.caption = scribe.say(Phrase::kCaptionInvalid);
  table.columns = {{scribe.say(Phrase::kTrial)}, {scribe.say(Phrase::kReason)}};
  for (const study::TrialRecord& trial : context.study.invalid_trials) {
    std::vector<Inline> reasons;
    for (const std::string& reason : trial.validity.reasons) reasons.push_back({text(reason)});
    table.rows.push_back({{{code(trial.id)}}, {scribe.enumerate(reasons), Tone::kWarning}});
  }
  section.blocks.push_back(std::move(table));
  return section;
}

}  // namespace

std::vector<Section> build_record_annexes(const ReportContext& context) {
  return {contrasts(context), gates(context), failures(context)};
}

}  // namespace crible::report
