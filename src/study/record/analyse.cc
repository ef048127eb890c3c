// analyse(): store -> everything the report says. Gather, summarise, contrast, gate, decide.
#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "study/record/contrast.h"
#include "study/record/decision.h"
#include "study/record/gate.h"
#include "study/record/knobs.h"
#include "study/record/measurements.h"
#include "study/record/plan.h"
#include "study/record/study_result.h"
#include "study/record/summary.h"

namespace crible::study {
namespace {

std::optional<double> median_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return percentile(values, 0.5);
}

// Launches: settings of the last one, median times of all.
void describe_launches(const StoredStudy& study, ConfigurationResult& result) {
  std::vector<double> boots, reconfigurations;
  for (const LaunchRecord& launch : study.launches) {
    if (launch.configuration != result.name) continue;
    result.resolved_json = launch.resolved_json;
    result.effective_json = launch.effective_json;
    result.adjustments = launch.adjustments;
    result.command_line = launch.command_line;
    if (launch.boot_ms) boots.push_back(*launch.boot_ms);
    if (launch.reconfigure_ms) reconfigurations.push_back(*launch.reconfigure_ms);
  }
  result.boot_ms = median_of(boots);
  result.reconfigure_ms = median_of(reconfigurations);
}

void count_trials(const StoredStudy& study, const StudySpec& spec, ConfigurationResult& result) {
  result.trials_planned = spec.blocks * static_cast<int>(spec.scenarios.size());
  for (const TrialRecord& trial : study.trials) {
    if (trial.configuration != result.name) continue;
    ++result.trials_done;
    result.trials_invalid += !trial.validity.valid;
  }
  const int usable = result.trials_done - result.trials_invalid;
  const bool failed = std::ranges::any_of(study.failures, [&](const FailureRecord& failure) {
    return failure.configuration == result.name;
  });
  if (usable == 0) {
    result.status = failed ? ConfigurationStatus::kFailed : ConfigurationStatus::kNotRun;
  } else {
    result.status = failed || usable < result.trials_planned ? ConfigurationStatus::kPartial
                                                             : ConfigurationStatus::kMeasured;
  }
}

void summarise_metrics(const StudySpec& spec, const Measurements& measurements,
                       ConfigurationResult& result) {
  for (const MetricInfo& metric : metric_table()) {
    const std::string name(metric.name);
    const std::optional<std::string> home = home_scenario(metric, spec.scenarios);
    result.metrics[name] =
        home ? summarise(measurements, result.name, metric, *home) : std::nullopt;
    for (const ScenarioSpec& scenario : spec.scenarios) {
      if (auto summary = summarise(measurements, result.name, metric, scenario.name)) {
        result.by_scenario[scenario.name].emplace(name, std::move(*summary));
      }
    }
  }
}

ConfigurationResult describe_configuration(const StoredStudy& study, const StudySpec& spec,
                                           const ConfigurationSpec& configuration,
                                           const Measurements& measurements) {
  ConfigurationResult result;
  result.name = configuration.name;
  result.requested = configuration.knobs;
  result.requested_json = knobs_json(configuration.knobs);
  result.resolved_json = "{}";
  result.effective_json = "{}";
  describe_launches(study, result);
  result.features_on = features_on(result.effective_json);
  count_trials(study, spec, result);
  summarise_metrics(spec, measurements, result);
  result.load_curve = load_curve(study.trials, result.name);
  return result;
}

// One contrast per pair of configurations, in the order of the spec.
void contrast_pairs(const StudySpec& spec, const Measurements& measurements,
                    const MetricReference& reference, const std::vector<std::string>& objectives,
                    std::vector<Contrast>& contrasts) {
  std::vector<std::map<int, double>> values;
  for (const ConfigurationSpec& configuration : spec.configurations) {
    values.push_back(measurements.block_values(configuration.name, reference));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = i + 1; j < values.size(); ++j) {
      if (values[i].empty() || values[j].empty()) continue;
      Contrast contrast =
          compare(reference, spec.configurations[i].name, spec.configurations[j].name, values[i],
                  values[j], spec.equivalence_margin);
      if (contrast.blocks == 0) continue;
      contrast.objectives = objectives;
      contrasts.push_back(std::move(contrast));
    }
  }
}

std::vector<Contrast*> tail(std::vector<Contrast>& contrasts, size_t begin) {
  std::vector<Contrast*> pointers;
  for (size_t i = begin; i < contrasts.size(); ++i) pointers.push_back(&contrasts[i]);
  return pointers;
}

// First the decisive contrasts, which are read together as one family; then those that describe the
// other metrics, each metric a family of its own.
std::vector<Contrast> make_contrasts(const StudySpec& spec, const Measurements& measurements) {
  std::map<MetricReference, std::vector<std::string>> decisive;
  for (const ObjectiveSpec& objective : spec.objectives) {
    decisive[objective.reference].push_back(objective.name);
  }
  std::vector<Contrast> contrasts;
  for (const auto& [reference, objectives] : decisive) {
    const size_t begin = contrasts.size();
    contrast_pairs(spec, measurements, reference, objectives, contrasts);
    std::set<std::string> compared;
    for (size_t i = begin; i < contrasts.size(); ++i) {
      compared.insert({contrasts[i].a, contrasts[i].b});
    }
    if (compared.empty()) continue;
    hold_to_winner_family(tail(contrasts, begin), static_cast<int>(compared.size()),
                          static_cast<int>(decisive.size()));
  }
  for (const MetricInfo& metric : metric_table()) {
    const std::optional<std::string> home = home_scenario(metric, spec.scenarios);
    if (!home) continue;
    const MetricReference reference{*home, std::string(metric.name),
                                    std::string(metric.default_statistic)};
    if (decisive.contains(reference)) continue;
    const size_t begin = contrasts.size();
    contrast_pairs(spec, measurements, reference, {}, contrasts);
    correct_by_holm(tail(contrasts, begin));
  }
  return contrasts;
}

std::vector<Candidate> make_candidates(const StoredStudy& study, const StudyResult& result,
                                       const ObjectiveSpec& objective,
                                       const Measurements& measurements) {
  std::vector<Candidate> candidates;
  for (const ConfigurationResult& configuration : result.configurations) {
    Candidate candidate;
    candidate.name = configuration.name;
    candidate.failed = std::ranges::any_of(study.failures, [&](const FailureRecord& failure) {
      return failure.configuration == configuration.name;
    });
    candidate.features_on = configuration.features_on;
    const auto& memory = configuration.metrics.at("device_memory_mib");
    candidate.device_memory_mib = memory ? memory->max : std::numeric_limits<double>::infinity();
    const MetricReference& reference = objective.reference;
    for (const auto& [block, samples] :
         measurements.samples(configuration.name, reference.scenario, reference.metric)) {
      candidate.objective_samples += static_cast<int64_t>(samples.size());
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

void decide_objectives(const StoredStudy& study, const Measurements& measurements,
                       StudyResult& result) {
  for (const ObjectiveSpec& objective : result.spec.objectives) {
    std::vector<int> indices;
    for (const ConstraintSpec& constraint : objective.constraints) {
      for (const ConfigurationSpec& configuration : result.spec.configurations) {
        indices.push_back(static_cast<int>(result.constraints.size()));
        result.constraints.push_back(
            check_constraint(constraint, configuration.name, measurements));
      }
    }
    const std::vector<Candidate> candidates =
        make_candidates(study, result, objective, measurements);
    result.verdicts.push_back(decide({objective, candidates, result.contrasts, result.constraints,
                                      std::move(indices), result.spec.equivalence_margin}));
  }
}

void describe_course(const StoredStudy& study, StudyResult& result) {
  result.machine = study.machine;
  result.model = study.model;
  result.events = study.events;
  result.failures = study.failures;
  if (!study.events.empty()) {
    result.started_wall_time = study.events.front().wall_time;
    result.ended_wall_time = study.events.back().wall_time;
  }
  std::set<std::string> done;
  for (const TrialRecord& trial : study.trials) {
    done.insert(trial.id);
    result.requests += static_cast<int64_t>(trial.requests.size());
    result.measured_s += static_cast<double>(trial.duration_ns) / 1e9;
    if (trial.validity.valid) continue;
    TrialRecord shown = trial;
    shown.requests.clear();
    result.invalid_trials.push_back(std::move(shown));
  }
  const Plan plan = make_plan(result.spec);
  result.trials_planned = plan.trial_count;
  for (const PlannedVisit& visit : plan.visits) {
    for (const PlannedTrial& trial : visit.trials) result.trials_done += done.contains(trial.id);
  }
  result.complete = result.trials_done == result.trials_planned;
}

void list_artifacts(const StoredStudy& study, StudyResult& result) {
  result.artifacts.push_back({"store", study.store_path, ""});
  std::set<std::string> listed;
  for (const LaunchRecord& launch : study.launches) {
    if (launch.log_path.empty() || !listed.insert(launch.log_path).second) continue;
    result.artifacts.push_back({"server_log", launch.log_path, launch.configuration});
  }
}

}  // namespace

Result<StudyResult> analyse(const StoredStudy& study) {
  StudyResult result;
  CRIBLE_TRY(result.spec, parse_spec(study.spec_text, study.spec_source));
  const Measurements measurements(result.spec, study.trials);
  describe_course(study, result);
  for (const ConfigurationSpec& configuration : result.spec.configurations) {
    result.configurations.push_back(
        describe_configuration(study, result.spec, configuration, measurements));
  }
  result.contrasts = make_contrasts(result.spec, measurements);
  decide_objectives(study, measurements, result);
  list_artifacts(study, result);
  return result;
}

const char* to_string(ConfigurationStatus status) {
  switch (status) {
    case ConfigurationStatus::kMeasured: return "measured";
    case ConfigurationStatus::kPartial: return "partial";
    case ConfigurationStatus::kFailed: return "failed";
    case ConfigurationStatus::kNotRun: return "not_run";
  }
  return "not_run";
}

}  // namespace crible::study
