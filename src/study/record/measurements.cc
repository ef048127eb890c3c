#include "study/record/measurements.h"

#include <algorithm>

#include "base/check.h"

namespace crible::study {

Measurements::Measurements(const StudySpec& spec, const std::vector<TrialRecord>& trials) {
  for (const TrialRecord& trial : trials) {
    const bool ours = std::ranges::find(spec.configurations, trial.configuration,
                                        &ConfigurationSpec::name) != spec.configurations.end();
    if (!trial.validity.valid || !ours) continue;
    const TrialMetrics metrics = compute_metrics(trial, spec.service_levels);
    add(trial, metrics, trial.scenario);
    add(trial, metrics, "");
  }
}

void Measurements::add(const TrialRecord& trial, const TrialMetrics& metrics,
                       const std::string& scenario) {
  const Place place{trial.configuration, scenario};
  RequestCounts& counts = counts_[place][trial.block];
  counts.failed += metrics.failed_requests;
  counts.requests += metrics.requests;
  trial_ids_[place].push_back(trial.id);
  for (const auto& [name, values] : metrics.samples) {
    // Pooling scenarios makes sense only where the metric means the same in all of them.
    if (scenario.empty() && !find_metric(name)->scenarios.empty()) continue;
    std::vector<double>& block = samples_[{trial.configuration, scenario, name}][trial.block];
    block.insert(block.end(), values.begin(), values.end());
  }
}

const Measurements::BlockSamples& Measurements::samples(const std::string& configuration,
                                                        const std::string& scenario,
                                                        std::string_view metric) const {
  static const BlockSamples kNothing;
  const auto found = samples_.find({configuration, scenario, std::string(metric)});
  return found == samples_.end() ? kNothing : found->second;
}

RequestCounts Measurements::counts(const std::string& configuration,
                                   const std::string& scenario) const {
  RequestCounts total;
  const auto found = counts_.find({configuration, scenario});
  if (found == counts_.end()) return total;
  for (const auto& [block, counts] : found->second) {
    total.failed += counts.failed;
    total.requests += counts.requests;
  }
  return total;
}

std::map<int, double> Measurements::block_values(const std::string& configuration,
                                                 const MetricReference& reference) const {
  std::map<int, double> values;
  const MetricInfo* metric = find_metric(reference.metric);
  CHECK(metric != nullptr, "{}", reference.metric);
  if (metric->scale == MetricScale::kProportion) {
    const auto found = counts_.find({configuration, reference.scenario});
    if (found == counts_.end()) return values;
    for (const auto& [block, counts] : found->second) {
      if (counts.requests == 0) continue;
      values[block] = static_cast<double>(counts.failed) / static_cast<double>(counts.requests);
    }
    return values;
  }
  for (const auto& [block, samples] :
       this->samples(configuration, reference.scenario, reference.metric)) {
    values[block] = statistic_of(samples, reference.statistic);
  }
  return values;
}

const std::vector<std::string>& Measurements::trial_ids(const std::string& configuration,
                                                        const std::string& scenario) const {
  static const std::vector<std::string> kNothing;
  const auto found = trial_ids_.find({configuration, scenario});
  return found == trial_ids_.end() ? kNothing : found->second;
}

std::vector<double> pooled(const Measurements::BlockSamples& samples) {
  std::vector<double> all;
  for (const auto& [block, values] : samples) all.insert(all.end(), values.begin(), values.end());
  return all;
}

double statistic_of(const std::vector<double>& samples, std::string_view statistic) {
  if (statistic == "mean") return mean(samples);
  if (statistic == "min") return std::ranges::min(samples);
  if (statistic == "max") return std::ranges::max(samples);
  const std::optional<double> rank = percentile_rank(statistic);
  CHECK(rank.has_value(), "statistic {}", statistic);
  return percentile(samples, *rank);
}

}  // namespace crible::study
