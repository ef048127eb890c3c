#include "report/sections.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

Paragraph what_was_done(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  const NumberFormat& numbers = scribe.numbers();
  const study::StudyResult& study = context.study;
  return {{text(
      scribe.say(Phrase::kLeadWhat, {numbers.integer(static_cast<int64_t>(study.configurations.size())),
                                     numbers.integer(study.spec.blocks), numbers.integer(study.trials_done),
                                     numbers.integer(study.requests), numbers.duration(study.measured_s)}))}};
}

Table verdict_table(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Table table;
  table.caption = scribe.say(Phrase::kCaptionVerdicts);
  table.columns = {{scribe.say(Phrase::kUseCase)},
                   {scribe.say(Phrase::kCriterion)},
                   {scribe.say(Phrase::kVerdict)},
                   {scribe.say(Phrase::kConfiguration)}};
  for (const study::Verdict& verdict : context.study.verdicts) {
    Inline proposed = {text(kNotMeasured)};
    if (!verdict.configuration.empty()) {
      proposed = configuration_link(context.study, verdict.configuration);
    } else if (!verdict.leading.empty()) {
      proposed =
          scribe.compose(Phrase::kLeadingNotProven, {configuration_link(context.study, verdict.leading)});
    }
    table.rows.push_back({{{strong(scribe.objective_label(verdict.objective))}},
                          {{text(criterion(scribe, verdict))}},
                          {{text(verdict_label(scribe, verdict.kind))}, verdict_tone(verdict.kind)},
                          {proposed}});
  }
  return table;
}

}  // namespace

std::vector<Block> build_summary(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  const NumberFormat& numbers = scribe.numbers();
  const study::StudyResult& study = context.study;
  std::vector<Block> blocks = {what_was_done(context)};
  if (!study.complete) {
    blocks.push_back(Callout{
        Tone::kWarning,
        {text(scribe.say(Phrase::kIncompleteTitle))},
        {{text(scribe.say(Phrase::kIncomplete,
                          {numbers.integer(study.trials_done), numbers.integer(study.trials_planned)}))}}});
  }
  if (!study.failures.empty() || !study.invalid_trials.empty()) {
    const auto failures = static_cast<int64_t>(study.failures.size());
    const auto invalid = static_cast<int64_t>(study.invalid_trials.size());
    blocks.push_back(Callout{
        study.failures.empty() ? Tone::kWarning : Tone::kBad,
        {text(scribe.say(Phrase::kTroubleTitle))},
        {scribe.compose(Phrase::kTrouble, {{text(numbers.integer(failures))},
                                           {text(numbers.integer(invalid))},
                                           {link(scribe.say(Phrase::kAnnexFailures), "#annex-failures")}})}});
  }
  if (!study.verdicts.empty()) blocks.push_back(verdict_table(context));
  return blocks;
}

}  // namespace crible::report
