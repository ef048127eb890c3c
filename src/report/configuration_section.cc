#include <algorithm>
#include <set>

#include "report/sections.h"
#include "report/settings.h"
#include "report/verdict_wording.h"
#include "study/record/metrics.h"

namespace crible::report {
namespace {

Table parameter_table(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  const auto effective = settings_of(configuration.effective_json);
  const auto resolved = settings_of(configuration.resolved_json);
  std::set<std::string> names;
  for (const auto& [name, value] : configuration.requested) names.insert(name);
  for (const auto& [name, value] : effective) names.insert(name);
  Table table;
  table.columns = {{scribe.say(Phrase::kSetting)},
                   {scribe.say(Phrase::kRequested), Align::kRight},
                   {scribe.say(Phrase::kResolved), Align::kRight},
                   {scribe.say(Phrase::kEffective), Align::kRight}};
  const auto cell = [&](const std::map<std::string, std::string>& values, const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() || found->second.empty() ? Cell{{detail(kNotMeasured)}, Tone::kMuted}
                                                          : Cell{{code(found->second)}};
  };
  for (const std::string& name : names) {
    table.rows.push_back(
        {{{code(name)}}, cell(configuration.requested, name), cell(resolved, name), cell(effective, name)});
  }
  return table;
}

List adjustment_list(const ReportContext& context, const study::ConfigurationResult& configuration) {
  List list;
  for (const study::AdjustmentRecord& adjustment : configuration.adjustments) {
    list.items.push_back(
        {Mark::kRemark, context.scribe.compose(Phrase::kAdjustment, {{code(adjustment.knob)},
                                                                     {code(adjustment.requested)},
                                                                     {code(adjustment.resolved)},
                                                                     {text(adjustment.reason)}})});
  }
  return list;
}

Table metric_table(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  Table table;
  table.columns = {{scribe.say(Phrase::kMetric)},
                   {scribe.say(Phrase::kScenario)},
                   {"p50 [" + scribe.say(Phrase::kInterval95) + "]", Align::kRight},
                   {"p90", Align::kRight},
                   {"p99", Align::kRight},
                   {"n", Align::kRight},
                   {scribe.say(Phrase::kTrials)}};
  for (const study::MetricInfo& info : study::metric_table()) {
    if (!is_reported(context.study, info)) continue;
    const std::string metric(info.name);
    const study::MetricSummary* summary = find_summary(configuration, metric);
    std::vector<Cell> row = {{{text(scribe.metric_column(metric))}}};
    if (summary == nullptr) {
      row.push_back({{detail(kNotMeasured)}, Tone::kMuted});
      row.push_back({{detail(scribe.say(Phrase::kNotMeasured))}, Tone::kMuted});
      for (int i = 0; i < 4; ++i) row.push_back({{detail(kNotMeasured)}, Tone::kMuted});
    } else {
      const auto tail = [&](const std::optional<double>& value) {
        return value ? Cell{{text(scribe.bare_amount(metric, *value))}}
                     : Cell{{noted(detail(kNotMeasured), scribe.say(Phrase::kPercentileUnsupportedNote))},
                            Tone::kMuted};
      };
      row.push_back(
          {{summary->scenario.empty() ? text(scribe.say(Phrase::kAllScenarios)) : code(summary->scenario)}});
      row.push_back({scribe.estimate(metric, summary, false)});
      row.push_back(tail(summary->p90));
      row.push_back(tail(summary->p99));
      row.push_back({{text(scribe.numbers().integer(summary->n))}});
      row.push_back({{detail(scribe.trial_ranges(summary->trial_ids))}});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// "TTFT (HIT), p50 (kv_cache): lower than `a` (−54% [−57% – −50%]) and `b` (...)".
Inline finding_sentence(const ReportContext& context, const FindingGroup& group) {
  const Scribe& scribe = context.scribe;
  std::vector<Inline> rivals;
  for (const Finding& finding : group.findings) {
    Inline rival = {code(finding.rival), text(" (")};
    append(rival, scribe.effect(group.reference, {finding.kind, finding.effect, finding.interval}));
    rival.push_back(text(")"));
    rivals.push_back(std::move(rival));
  }
  return scribe.compose(group.side == Side::kLower ? Phrase::kFindingLower : Phrase::kFindingHigher,
                        {{strong(scribe.reference_label(group.reference))}, scribe.enumerate(rivals)});
}

List finding_list(const ReportContext& context, const study::ConfigurationResult& configuration,
                  bool strengths) {
  const Scribe& scribe = context.scribe;
  const Mark mark = strengths ? Mark::kStrength : Mark::kWeakness;
  List list;
  for (const FindingGroup& group : findings_for(context.study, configuration.name)) {
    if (group.better == strengths && !is_secondary_metric(group.reference.metric))
      list.items.push_back({mark, finding_sentence(context, group)});
  }
  for (const study::ConstraintResult* gate : distinct_constraints(context.study, configuration.name)) {
    const bool met = gate->state == study::ConstraintState::kMet;
    if (met == strengths) list.items.push_back({mark, constraint_sentence(scribe, *gate)});
  }
  if (!strengths) {
    for (const study::FailureRecord& failure : context.study.failures) {
      if (failure.configuration != configuration.name) continue;
      list.items.push_back(
          {mark, scribe.compose(Phrase::kFindingFailure, {{strong(scribe.cause_label(failure.cause))},
                                                          {text(scribe.phase_label(failure.phase))},
                                                          {text(failure.message)}})});
    }
    if (configuration.trials_invalid > 0) {
      list.items.push_back({mark,
                            {text(scribe.say(Phrase::kFindingInvalid,
                                             {scribe.numbers().integer(configuration.trials_invalid),
                                              scribe.numbers().integer(configuration.trials_done)}))}});
    }
  }
  if (list.items.empty()) {
    list.items.push_back(
        {Mark::kRemark, {text(scribe.say(strengths ? Phrase::kNoStrength : Phrase::kNoWeakness))}});
  }
  return list;
}

List use_case_list(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  List list;
  for (const study::Verdict& verdict : context.study.verdicts) {
    const Inline label = {strong(scribe.objective_label(verdict.objective))};
    const bool contends = std::find(verdict.contenders.begin(), verdict.contenders.end(),
                                    configuration.name) != verdict.contenders.end();
    const bool proposed = verdict.configuration == configuration.name;
    if (verdict.kind == study::VerdictKind::kWinner && proposed) {
      list.items.push_back({Mark::kStrength, scribe.compose(Phrase::kUseWon, {label})});
    } else if (verdict.kind == study::VerdictKind::kTie && (proposed || contends)) {
      list.items.push_back({proposed ? Mark::kStrength : Mark::kRemark,
                            scribe.compose(proposed ? Phrase::kUseTiedProposed : Phrase::kUseTied, {label})});
    } else if (verdict.kind == study::VerdictKind::kInsufficient && contends) {
      list.items.push_back({Mark::kRemark, scribe.compose(Phrase::kUseOpen, {label})});
    }
  }
  if (list.items.empty()) list.items.push_back({Mark::kRemark, {text(scribe.say(Phrase::kUseNone))}});
  return list;
}

Paragraph equivalence_paragraph(const ReportContext& context, const std::vector<Equivalence>& equivalences) {
  const Scribe& scribe = context.scribe;
  std::vector<Inline> items;
  for (const Equivalence& equivalence : equivalences) {
    if (is_secondary_metric(equivalence.reference.metric)) continue;
    Inline item = {text(scribe.reference_label(equivalence.reference) + " (")};
    append(item, code_list(scribe, equivalence.rivals));
    item.push_back(text(")"));
    items.push_back(std::move(item));
  }
  return {scribe.compose(
      Phrase::kEquivalences,
      {{text(scribe.numbers().percent(context.study.spec.equivalence_margin))}, scribe.enumerate(items)})};
}

Paragraph course(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  const NumberFormat& numbers = scribe.numbers();
  Inline words = {strong(scribe.status_label(configuration.status)), text(" \u00b7 ")};
  words.push_back(text(scribe.say(Phrase::kTrialCounts, {numbers.integer(configuration.trials_done),
                                                         numbers.integer(configuration.trials_planned),
                                                         numbers.integer(configuration.trials_invalid)})));
  words.push_back(
      text(" \u00b7 " + scribe.say(Phrase::kFeaturesOn, {numbers.integer(configuration.features_on)})));
  if (configuration.boot_ms) {
    words.push_back(
        text(" \u00b7 " + scribe.say(Phrase::kBootTook, {scribe.amount("ttft_ms", *configuration.boot_ms)})));
  }
  if (configuration.reconfigure_ms) {
    words.push_back(text(" \u00b7 " + scribe.say(Phrase::kReconfigureTook,
                                                 {scribe.amount("ttft_ms", *configuration.reconfigure_ms)})));
  }
  return {words};
}

Section build_one(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  Section section{configuration_anchor(context.study, configuration.name), configuration.name, {}, {}};
  auto& blocks = section.blocks;
  blocks.push_back(course(context, configuration));
  blocks.push_back(Heading{scribe.say(Phrase::kParameters)});
  blocks.push_back(parameter_table(context, configuration));
  if (!configuration.adjustments.empty()) blocks.push_back(adjustment_list(context, configuration));
  blocks.push_back(Heading{scribe.say(Phrase::kMetrics)});
  blocks.push_back(metric_table(context, configuration));
  blocks.push_back(Heading{scribe.say(Phrase::kStrengths)});
  blocks.push_back(finding_list(context, configuration, true));
  blocks.push_back(Heading{scribe.say(Phrase::kWeaknesses)});
  blocks.push_back(finding_list(context, configuration, false));
  const auto equivalences = equivalences_for(context.study, configuration.name);
  if (!equivalences.empty()) blocks.push_back(equivalence_paragraph(context, equivalences));
  blocks.push_back(Heading{scribe.say(Phrase::kUseCases)});
  blocks.push_back(use_case_list(context, configuration));
  return section;
}

}  // namespace

Section build_configuration_sections(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"configurations", scribe.say(Phrase::kSectionConfigurations), {}, {}};
  section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kConfigurationsLead))}});
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    section.children.push_back(build_one(context, configuration));
  }
  return section;
}

}  // namespace crible::report
