#include "report/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "report/findings.h"
#include "report/settings.h"

namespace crible::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormatVersion = 1;

// JSON has no infinities: a value that is none is null.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

template <typename T>
Json optional(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_floating_point_v<T>) {
    return number(*value);
  } else {
    return *value;
  }
}

Json interval(const std::optional<study::Interval>& value) {
  return value ? Json::array({number(value->low), number(value->high)}) : Json(nullptr);
}

Json settings(const std::string& text) {
  Json object = Json::parse(text, nullptr, false);
  return object.is_object() ? object : Json::object();
}

Json summary(const study::MetricSummary& value) {
  return {{"scenario", value.scenario}, {"p50", number(value.p50)},           {"p90", optional(value.p90)},
          {"p99", optional(value.p99)}, {"ci95", interval(value.ci95)},       {"n", value.n},
          {"mean", number(value.mean)}, {"min", number(value.min)},           {"max", number(value.max)},
          {"blocks", value.blocks},     {"block_values", value.block_values}, {"trials", value.trial_ids}};
}

Json load_curve(const std::vector<study::LoadPoint>& points) {
  Json curve = Json::array();
  for (const study::LoadPoint& point : points) {
    curve.push_back({{"streams", point.level},
                     {"output_tokens_per_s", number(point.output_tokens_per_s)},
                     {"requests_per_s", number(point.requests_per_s)},
                     {"ttft_p50_ms", optional(point.ttft_p50_ms)},
                     {"itl_p50_ms", optional(point.itl_p50_ms)},
                     {"e2el_p50_ms", optional(point.e2el_p50_ms)},
                     {"requests", point.requests},
                     {"failed_requests", point.failed_requests}});
  }
  return curve;
}

Json configuration(const study::StudyResult& study, const study::ConfigurationResult& value) {
  Json adjustments = Json::array();
  for (const study::AdjustmentRecord& adjustment : value.adjustments) {
    adjustments.push_back({{"knob", adjustment.knob},
                           {"requested", adjustment.requested},
                           {"resolved", adjustment.resolved},
                           {"reason", adjustment.reason}});
  }
  Json metrics = Json::object();
  for (const auto& [name, metric] : value.metrics) {
    const study::MetricInfo* info = study::find_metric(name);
    if (info != nullptr && !is_reported(study, *info)) continue;
    metrics[name] = metric ? summary(*metric) : Json(nullptr);
  }
  Json scenarios = Json::object();
  for (const auto& [scenario, by_metric] : value.by_scenario) {
    scenarios[scenario] = Json::object();
    for (const auto& [name, metric] : by_metric) scenarios[scenario][name] = summary(metric);
  }
  return {
      {"name", value.name},
      {"requested", settings(value.requested_json)},
      {"resolved", settings(value.resolved_json)},
      {"effective", settings(value.effective_json)},
      {"adjustments", adjustments},
      {"command_line", value.command_line},
      {"status", study::to_string(value.status)},
      {"features_on", value.features_on},
      {"trials",
       {{"planned", value.trials_planned}, {"done", value.trials_done}, {"invalid", value.trials_invalid}}},
      {"boot_ms", optional(value.boot_ms)},
      {"reconfigure_ms", optional(value.reconfigure_ms)},
      {"metrics", metrics},
      {"by_scenario", scenarios},
      {"load_curve", load_curve(value.load_curve)}};
}

Json reference(const study::MetricReference& value) {
  return {{"scenario", value.scenario}, {"metric", value.metric}, {"statistic", value.statistic}};
}

Json contrasts(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::Contrast& contrast : study.contrasts) {
    all.push_back({{"reference", reference(contrast.reference)},
                   {"objectives", contrast.objectives},
                   {"a", contrast.a},
                   {"b", contrast.b},
                   {"kind", study::to_string(contrast.kind)},
                   {"blocks", contrast.blocks},
                   {"effect", number(contrast.effect)},
                   {"ci95", interval(contrast.ci95)},
                   {"simultaneous", interval(contrast.simultaneous)},
                   {"p", optional(contrast.p)},
                   {"adjusted_p", optional(contrast.adjusted_p)},
                   {"decided", contrast.decided},
                   {"equivalent", contrast.equivalent}});
  }
  return all;
}

Json constraint_spec(const study::ConstraintSpec& value) {
  return {{"reference", reference(value.reference)},
          {"relation", value.relation == study::Relation::kAtMost ? "<=" : ">="},
          {"bound", number(value.bound)}};
}

Json constraints(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::ConstraintResult& result : study.constraints) {
    all.push_back({{"constraint", constraint_spec(result.constraint)},
                   {"configuration", result.configuration},
                   {"state", study::to_string(result.state)},
                   {"observed", optional(result.observed)},
                   {"bound_shown", optional(result.bound_shown)},
                   {"confidence", number(result.confidence)},
                   {"n", result.n},
                   {"n_needed", result.n_needed}});
  }
  return all;
}

Json verdicts(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::Verdict& verdict : study.verdicts) {
    Json reasons = Json::array();
    for (const study::VerdictReason& reason : verdict.reasons) {
      reasons.push_back({{"kind", study::to_string(reason.kind)},
                         {"configuration", reason.configuration},
                         {"rival", reason.rival},
                         {"contrast", optional(reason.contrast)},
                         {"constraint", optional(reason.constraint)},
                         {"n", optional(reason.n)},
                         {"n_needed", optional(reason.n_needed)}});
    }
    all.push_back(
        {{"objective", verdict.objective},
         {"sense", verdict.sense == study::Sense::kMinimise ? "minimise" : "maximise"},
         {"reference", reference(verdict.reference)},
         {"kind", study::to_string(verdict.kind)},
         {"configuration", verdict.configuration.empty() ? Json(nullptr) : Json(verdict.configuration)},
         {"leading", verdict.leading.empty() ? Json(nullptr) : Json(verdict.leading)},
         {"contenders", verdict.contenders},
         {"reasons", reasons}});
  }
  return all;
}

Json failures(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::FailureRecord& failure : study.failures) {
    all.push_back({{"configuration", failure.configuration},
                   {"cause", study::to_string(failure.cause)},
                   {"phase", study::to_string(failure.phase)},
                   {"trial", failure.trial_id},
                   {"launch", failure.launch_id},
                   {"wall_time", failure.wall_time},
                   {"message", failure.message},
                   {"evidence", failure.evidence}});
  }
  return all;
}

Json invalid_trials(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::TrialRecord& trial : study.invalid_trials) {
    all.push_back({{"id", trial.id}, {"reasons", trial.validity.reasons}});
  }
  return all;
}

Json artifacts(const study::StudyResult& study) {
  Json all = Json::array();
  for (const study::Artifact& artifact : study.artifacts) {
    all.push_back(
        {{"kind", artifact.kind}, {"path", artifact.path}, {"configuration", artifact.configuration}});
  }
  return all;
}

Json study_object(const study::StudyResult& study) {
  Json scenarios = Json::array();
  for (const study::ScenarioSpec& scenario : study.spec.scenarios) {
    Json parameters = Json::object();
    for (const auto& [name, values] : scenario.parameters) parameters[name] = values;
    scenarios.push_back({{"name", scenario.name}, {"parameters", parameters}});
  }
  return {{"name", study.spec.name},
          {"complete", study.complete},
          {"started", study.started_wall_time},
          {"ended", study.ended_wall_time},
          {"blocks", study.spec.blocks},
          {"seed", study.spec.seed},
          {"equivalence_margin", number(study.spec.equivalence_margin)},
          {"scenarios", scenarios},
          {"trials", {{"planned", study.trials_planned}, {"done", study.trials_done}}},
          {"requests", study.requests},
          {"measured_s", number(study.measured_s)},
          {"spec", study.spec.source_text}};
}

}  // namespace

std::string render_json(const study::StudyResult& study) {
  Json configurations = Json::array();
  for (const study::ConfigurationResult& value : study.configurations)
    configurations.push_back(configuration(study, value));
  const Json report = {{"format_version", kFormatVersion},
                       {"study", study_object(study)},
                       {"machine",
                        {{"host", study.machine.host},
                         {"cpu_model", study.machine.cpu_model},
                         {"cpu_cores", study.machine.cpu_cores},
                         {"cpu_features", study.machine.cpu_features},
                         {"memory_bytes", study.machine.memory_bytes},
                         {"device", study.machine.device},
                         {"device_memory_bytes", study.machine.device_memory_bytes},
                         {"os", study.machine.os},
                         {"program_version", study.machine.program_version}}},
                       {"model",
                        {{"name", study.model.name},
                         {"path", study.model.path},
                         {"architecture", study.model.architecture},
                         {"quantization", study.model.quantization},
                         {"file_bytes", study.model.file_bytes},
                         {"parameters", study.model.parameters},
                         {"context_tokens", study.model.context_tokens},
                         {"sha256", study.model.sha256}}},
                       {"configurations", configurations},
                       {"contrasts", contrasts(study)},
                       {"constraints", constraints(study)},
                       {"verdicts", verdicts(study)},
                       {"failures", failures(study)},
                       {"invalid_trials", invalid_trials(study)},
                       {"artifacts", artifacts(study)}};
  // Bytes that are no UTF-8 (server logs hold them) become U+FFFD rather than an error.
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace crible::report
