#include <algorithm>

#include "report/sections.h"
#include "report/settings.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

constexpr const char* kExpectedMetrics[] = {
    "ttft_miss_ms", "ttft_hit_ms",       "ttft_repeat_ms",      "ttft_ms",
    "itl_ms",       "e2el_ms",           "output_tokens_per_s", "latency_slope",
    "error_rate",   "device_memory_mib", "server_resident_mib", "energy_per_output_token_j"};

Table expected_metrics(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  Table table;
  table.columns = {{scribe.say(Phrase::kMetric)},
                   {scribe.say(Phrase::kExpectedP50), Align::kRight},
                   {"p99", Align::kRight},
                   {"n", Align::kRight}};
  for (const char* metric : kExpectedMetrics) {
    const study::MetricSummary* summary = find_summary(configuration, metric);
    if (!is_reported(context.study, *study::find_metric(metric))) continue;
    table.rows.push_back(
        {{{text(scribe.metric_label(metric))}},
         {scribe.estimate(metric, summary, true)},
         {{text(scribe.amount(metric, summary == nullptr ? std::nullopt : summary->p99))}},
         {{text(summary == nullptr ? kNotMeasured : scribe.numbers().integer(summary->n))}}});
  }
  return table;
}

// --- Checklist: a tick stands for something that the record shows.

class Checklist {
 public:
  Checklist(const ReportContext& context, const study::ConfigurationResult& configuration)
      : context_(context), scribe_(context.scribe), configuration_(configuration) {}

  List build() {
    effective();
    trials();
    failures();
    gates();
    growth();
    load();
    scenario("soak", Phrase::kCheckSoak);
    scenario("tool_calling", Phrase::kCheckToolCalling);
    add(false, scribe_.say(Phrase::kCheckMonitoring));
    return std::move(list_);
  }

 private:
  void add(bool done, Inline words) {
    list_.items.push_back({done ? Mark::kDone : Mark::kOpen, std::move(words)});
  }
  void add(bool done, const std::string& words) { add(done, Inline{text(words)}); }
  std::string integer(int64_t value) const { return scribe_.numbers().integer(value); }

  void effective() {
    const bool mismatch = std::any_of(context_.study.failures.begin(), context_.study.failures.end(),
                                      [&](const study::FailureRecord& failure) {
                                        return failure.configuration == configuration_.name &&
                                               failure.cause == study::FailureCause::kEffectiveMismatch;
                                      });
    const bool read_back = !settings_of(configuration_.effective_json).empty();
    add(read_back && !mismatch, scribe_.say(Phrase::kCheckEffective));
  }
  void trials() {
    const bool all = configuration_.trials_planned > 0 &&
                     configuration_.trials_done == configuration_.trials_planned &&
                     configuration_.trials_invalid == 0;
    add(all, scribe_.say(Phrase::kCheckTrials,
                         {integer(configuration_.trials_done - configuration_.trials_invalid),
                          integer(configuration_.trials_planned)}));
  }
  void failures() {
    const auto count = std::count_if(
        context_.study.failures.begin(), context_.study.failures.end(),
        [&](const study::FailureRecord& failure) { return failure.configuration == configuration_.name; });
    const bool ran = configuration_.trials_done > 0;
    add(ran && count == 0, scribe_.say(Phrase::kCheckFailures, {integer(count)}));
  }
  void gates() {
    for (const study::ConstraintResult* gate : distinct_constraints(context_.study, configuration_.name)) {
      add(gate->state == study::ConstraintState::kMet, constraint_sentence(scribe_, *gate));
    }
  }
  void growth() {
    const study::MetricSummary* slope = find_summary(configuration_, "latency_slope");
    const bool none_shown = slope != nullptr && slope->ci95 && slope->ci95->low <= 0;
    add(none_shown, scribe_.compose(Phrase::kCheckGrowth, {scribe_.estimate("latency_slope", slope, true)}));
  }
  void load() {
    int most = 0;
    for (const study::LoadPoint& point : configuration_.load_curve) {
      if (point.requests > 0 && point.failed_requests == 0) most = std::max(most, point.level);
    }
    add(most > 0,
        most > 0 ? scribe_.say(Phrase::kCheckLoad, {integer(most)}) : scribe_.say(Phrase::kCheckNoLoad));
  }
  void scenario(const std::string& name, Phrase phrase) {
    const auto found = configuration_.by_scenario.find(name);
    add(found != configuration_.by_scenario.end() && !found->second.empty(), scribe_.say(phrase));
  }

  const ReportContext& context_;
  const Scribe& scribe_;
  const study::ConfigurationResult& configuration_;
  List list_;
};

List known_limits(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  List list;
  for (const FindingGroup& group : findings_for(context.study, configuration.name)) {
    if (group.better || is_secondary_metric(group.reference.metric)) continue;
    std::vector<std::string> rivals;
    for (const Finding& finding : group.findings) rivals.push_back(finding.rival);
    list.items.push_back({Mark::kWeakness, scribe.compose(Phrase::kLimitWorse,
                                                          {{strong(scribe.reference_label(group.reference))},
                                                           code_list(scribe, rivals)})});
  }
  for (const study::ConstraintResult* gate : distinct_constraints(context.study, configuration.name)) {
    if (gate->state != study::ConstraintState::kMet) {
      list.items.push_back({Mark::kWeakness, constraint_sentence(scribe, *gate)});
    }
  }
  std::vector<Inline> unsupported;
  for (const auto& [metric, summary] : configuration.metrics) {
    if (!summary || summary->p99 || !metric.ends_with("_ms") || is_secondary_metric(metric)) continue;
    unsupported.push_back({text(scribe.metric_label(metric))});
  }
  if (!unsupported.empty()) {
    list.items.push_back(
        {Mark::kRemark, scribe.compose(Phrase::kLimitPercentile, {scribe.enumerate(unsupported)})});
  }
  list.items.push_back({Mark::kRemark, {text(scribe.say(Phrase::kLimitMachine))}});
  list.items.push_back(
      {Mark::kRemark,
       {text(scribe.say(Phrase::kLimitDuration, {scribe.numbers().duration(context.study.measured_s)}))}});
  return list;
}

std::string yaml_settings(const ReportContext& context, const study::ConfigurationResult& configuration) {
  std::string yaml;
  for (const auto& [name, value] : settings_to_deploy(context.study, configuration))
    yaml += name + ": " + value + "\n";
  return yaml;
}

void add_selected(const ReportContext& context, const study::Verdict& verdict,
                  const study::ConfigurationResult& configuration, std::vector<Block>& blocks) {
  const Scribe& scribe = context.scribe;
  blocks.push_back(
      Callout{verdict_tone(verdict.kind),
              scribe.compose(Phrase::kSelected, {configuration_link(context.study, configuration.name)}),
              {verdict_sentence(context, verdict)}});
  blocks.push_back(Heading{scribe.say(Phrase::kParameters)});
  blocks.push_back(CodeBlock{"yaml", yaml_settings(context, configuration)});
  if (context.study.spec.target.engine == study::TargetEngine::kCrible) {
    blocks.push_back(Heading{scribe.say(Phrase::kLaunchCommand)});
    blocks.push_back(CodeBlock{"sh", launch_command(context.study, configuration)});
  }
  blocks.push_back(Heading{scribe.say(Phrase::kJustification)});
  List reasons;
  for (const study::VerdictReason& reason : verdict.reasons) {
    if (reason.configuration == configuration.name) {
      reasons.items.push_back({Mark::kStrength, reason_sentence(context, verdict, reason)});
    }
  }
  if (reasons.items.empty()) reasons.items.push_back({Mark::kRemark, verdict_sentence(context, verdict)});
  blocks.push_back(std::move(reasons));
  blocks.push_back(Heading{scribe.say(Phrase::kKnownLimits)});
  blocks.push_back(known_limits(context, configuration));
  blocks.push_back(Heading{scribe.say(Phrase::kExpectedMetrics)});
  blocks.push_back(expected_metrics(context, configuration));
  blocks.push_back(Heading{scribe.say(Phrase::kChecklist)});
  blocks.push_back(Paragraph{{text(scribe.say(Phrase::kChecklistLead))}});
  blocks.push_back(Checklist(context, configuration).build());
}

}  // namespace

Section build_decision(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"decision", scribe.say(Phrase::kSectionDecision), {}, {}};
  const study::Verdict* verdict = production_verdict(context.study);
  if (verdict == nullptr) {
    section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kNoObjectives))}});
    return section;
  }
  section.blocks.push_back(Paragraph{scribe.compose(
      Phrase::kDecisionFollows,
      {{strong(scribe.objective_label(verdict->objective))}, {text(criterion(scribe, *verdict))}})});
  const study::ConfigurationResult* selected = find_configuration(context.study, verdict->configuration);
  if (selected != nullptr) {
    add_selected(context, *verdict, *selected, section.blocks);
    return section;
  }
  Callout none{verdict_tone(verdict->kind),
               {text(scribe.say(Phrase::kNoneSelected))},
               {verdict_sentence(context, *verdict)}};
  for (const study::VerdictReason& reason : verdict->reasons) {
    none.lines.push_back(reason_sentence(context, *verdict, reason));
  }
  section.blocks.push_back(std::move(none));
  if (const auto* leading = find_configuration(context.study, verdict->leading)) {
    section.blocks.push_back(
        Paragraph{scribe.compose(Phrase::kLeadingOnly, {configuration_link(context.study, leading->name)})});
    section.blocks.push_back(Heading{scribe.say(Phrase::kChecklist)});
    section.blocks.push_back(Checklist(context, *leading).build());
  }
  return section;
}

}  // namespace crible::report
