#include "report/sections.h"

#include <fmt/format.h>

#include <utility>

#include "report/metric_wording.h"
#include "study/record/metrics.h"

namespace crible::report {
namespace {

class FactTable {
 public:
  explicit FactTable(const Scribe& scribe, const std::string& caption) : scribe_(scribe) {
    table_.caption = caption;
    table_.columns = {{scribe.say(Phrase::kFact)}, {scribe.say(Phrase::kValue)}};
  }
  void add(Phrase name, const std::string& value) {
    table_.rows.push_back({{{text(scribe_.say(name))}}, {{text(value.empty() ? kNotMeasured : value)}}});
  }
  void add_count(Phrase name, int64_t value) { add(name, value > 0 ? scribe_.numbers().integer(value) : ""); }
  void add_bytes(Phrase name, int64_t value) { add(name, value > 0 ? scribe_.numbers().bytes(value) : ""); }
  Table take() { return std::move(table_); }

 private:
  const Scribe& scribe_;
  Table table_;
};

Section sources(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  const study::StudyResult& study = context.study;
  Section section{"annex-sources", scribe.say(Phrase::kAnnexSources), {}, {}};
  section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kSourcesLead))}});

  FactTable course(scribe, scribe.say(Phrase::kCaptionStudy));
  course.add(Phrase::kFactStudy, study.spec.name);
  course.add(Phrase::kFactStarted, study.started_wall_time);
  course.add(Phrase::kFactEnded, study.ended_wall_time);
  course.add(Phrase::kFactTrials,
             scribe.say(Phrase::kCountOf, {scribe.numbers().integer(study.trials_done),
                                           scribe.numbers().integer(study.trials_planned)}));
  course.add_count(Phrase::kFactRequests, study.requests);
  course.add(Phrase::kFactMeasured, scribe.numbers().duration(study.measured_s));
  course.add_count(Phrase::kFactBlocks, study.spec.blocks);
  course.add(Phrase::kFactSeed, std::to_string(study.spec.seed));
  section.blocks.push_back(course.take());

  FactTable machine(scribe, scribe.say(Phrase::kCaptionMachine));
  machine.add(Phrase::kFactHost, study.machine.host);
  machine.add(Phrase::kFactProcessor, study.machine.cpu_model);
  machine.add_count(Phrase::kFactCores, study.machine.cpu_cores);
  machine.add(Phrase::kFactInstructions, study.machine.cpu_features);
  machine.add_bytes(Phrase::kFactMemory, study.machine.memory_bytes);
  machine.add(Phrase::kFactDevice, study.machine.device);
  machine.add_bytes(Phrase::kFactDeviceMemory, study.machine.device_memory_bytes);
  machine.add(Phrase::kFactSystem, study.machine.os);
  machine.add(Phrase::kFactVersion, study.machine.program_version);
  section.blocks.push_back(machine.take());

  FactTable model(scribe, scribe.say(Phrase::kCaptionModel));
  model.add(Phrase::kFactModel, study.model.name);
  model.add(Phrase::kFactPath, study.model.path);
  model.add(Phrase::kFactArchitecture, study.model.architecture);
  model.add(Phrase::kFactQuantization, study.model.quantization);
  model.add_count(Phrase::kFactParameters, study.model.parameters);
  model.add_bytes(Phrase::kFactFileSize, study.model.file_bytes);
  model.add_count(Phrase::kFactContext, study.model.context_tokens);
  model.add(Phrase::kFactSha, study.model.sha256);
  section.blocks.push_back(model.take());
  return section;
}

std::string scenario_parameters(const study::ScenarioSpec& scenario) {
  std::string words;
  for (const auto& [name, values] : scenario.parameters) {
    words += (words.empty() ? "" : ", ") + name + " = ";
    for (size_t i = 0; i < values.size(); ++i) words += (i == 0 ? "" : "/") + fmt::format("{:g}", values[i]);
  }
  return words;
}

Section method(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-method", scribe.say(Phrase::kAnnexMethod), {}, {}};
  List rules;
  for (const Phrase rule :
       {Phrase::kMethodClock, Phrase::kMethodBlocks, Phrase::kMethodIntervals, Phrase::kMethodContrasts,
        Phrase::kMethodHolm, Phrase::kMethodVerdict, Phrase::kMethodPercentiles, Phrase::kMethodHit,
        Phrase::kMethodEffective, Phrase::kMethodValidity}) {
    rules.items.push_back(
        {Mark::kNone,
         {text(scribe.say(rule, {scribe.numbers().percent(context.study.spec.equivalence_margin)}))}});
  }
  if (is_reported(context.study, *study::find_metric("gpu_throttled_share"))) {
    rules.items.push_back({Mark::kNone, {text(scribe.say(Phrase::kMethodGpu))}});
  }
  section.blocks.push_back(std::move(rules));

  Table scenarios;
  scenarios.caption = scribe.say(Phrase::kCaptionScenarios);
  scenarios.columns = {
      {scribe.say(Phrase::kScenario)}, {scribe.say(Phrase::kDefinition)}, {scribe.say(Phrase::kParameters)}};
  for (const study::ScenarioSpec& scenario : context.study.spec.scenarios) {
    scenarios.rows.push_back({{{code(scenario.name)}},
                              {{text(scenario_definition(scenario.name, scribe.language()))}},
                              {{detail(scenario_parameters(scenario))}}});
  }
  section.blocks.push_back(std::move(scenarios));

  Table metrics;
  metrics.caption = scribe.say(Phrase::kCaptionDefinitions);
  metrics.columns = {{scribe.say(Phrase::kMetric)},
                     {"report.json"},
                     {scribe.say(Phrase::kUnit)},
                     {scribe.say(Phrase::kBetter)},
                     {scribe.say(Phrase::kDefinition)}};
  for (const study::MetricInfo& info : study::metric_table()) {
    if (!is_reported(context.study, info)) continue;
    const std::string name(info.name);
    const std::string unit = scribe.metric_unit(name);
    const bool lower = info.direction == study::Direction::kLowerIsBetter;
    metrics.rows.push_back({{{strong(scribe.metric_label(name))}},
                            {{code(name)}},
                            {{text(unit.empty() ? kNotMeasured : unit)}},
                            {{text(scribe.say(lower ? Phrase::kLower : Phrase::kHigher))}},
                            {{text(metric_definition(name, scribe.language()))}}});
  }
  section.blocks.push_back(std::move(metrics));
  return section;
}

std::string artifact_kind(const Scribe& scribe, const std::string& kind) {
  if (kind == "store") return scribe.say(Phrase::kFileStore);
  if (kind == "server_log") return scribe.say(Phrase::kFileServerLog);
  if (kind == "launch_command") return scribe.say(Phrase::kLaunchCommand);
  if (kind == "configuration") return scribe.say(Phrase::kFileConfiguration);
  return kind;
}

Section files(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-files", scribe.say(Phrase::kAnnexFiles), {}, {}};
  Table table;
  table.columns = {
      {scribe.say(Phrase::kFile)}, {scribe.say(Phrase::kContent)}, {scribe.say(Phrase::kConfiguration)}};
  for (const study::Artifact& artifact : context.study.artifacts) {
    table.rows.push_back(
        {{{code(artifact.path)}},
         {{text(artifact_kind(scribe, artifact.kind))}},
         {{artifact.configuration.empty() ? detail(kNotMeasured) : code(artifact.configuration)}}});
  }
  for (const auto& [name, phrase] :
       {std::pair("report.md", Phrase::kFileMarkdown), std::pair("report.json", Phrase::kFileJson),
        std::pair("report.html", Phrase::kFileHtml)}) {
    table.rows.push_back({{{code(name)}}, {{text(scribe.say(phrase))}}, {{detail(kNotMeasured)}}});
  }
  section.blocks.push_back(std::move(table));
  return section;
}

}  // namespace

Section build_annexes(const ReportContext& context) {
  Section section{"annexes", context.scribe.say(Phrase::kSectionAnnexes), {}, {}};
  section.children = {sources(context), method(context)};
  for (Section& annex : build_record_annexes(context)) section.children.push_back(std::move(annex));
  section.children.push_back(files(context));
  section.children.push_back(build_next_actions(context));
  return section;
}

}  // namespace crible::report
