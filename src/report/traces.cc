#include "report/traces.h"

#include <algorithm>
#include <map>

#include "study/record/metrics.h"
#include "study/record/statistics.h"

namespace crible::report {
namespace {

constexpr size_t kMostPoints = 200;

std::vector<const study::TrialRecord*> valid_trials(const study::StoredStudy& stored,
                                                    const std::string& configuration,
                                                    const std::string& scenario) {
  std::vector<const study::TrialRecord*> trials;
  for (const study::TrialRecord& trial : stored.trials) {
    const bool wanted = trial.configuration == configuration && trial.scenario == scenario;
    if (wanted && trial.validity.valid) trials.push_back(&trial);
  }
  return trials;
}

// The empirical distribution, thinned to evenly spaced ranks (first and last kept).
Trace distribution_trace(const std::string& configuration, std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  Trace trace{configuration, {}, {}};
  const size_t points = std::min(samples.size(), kMostPoints);
  for (size_t i = 0; i < points; ++i) {
    const size_t rank = points == 1 ? 0 : i * (samples.size() - 1) / (points - 1);
    trace.x.push_back(samples[rank]);
    trace.y.push_back(static_cast<double>(rank + 1) / static_cast<double>(samples.size()));
  }
  return trace;
}

Distribution collect_distribution(const study::StoredStudy& stored, const study::StudyResult& study,
                                  const std::string& metric, const std::string& scenario) {
  Distribution distribution{metric, scenario, {}};
  for (const study::ConfigurationResult& configuration : study.configurations) {
    std::vector<double> samples;
    for (const study::TrialRecord* trial : valid_trials(stored, configuration.name, scenario)) {
      const study::TrialMetrics metrics = study::compute_metrics(*trial, study.spec.service_levels);
      const auto found = metrics.samples.find(metric);
      if (found == metrics.samples.end()) continue;
      samples.insert(samples.end(), found->second.begin(), found->second.end());
    }
    if (!samples.empty())
      distribution.traces.push_back(distribution_trace(configuration.name, std::move(samples)));
  }
  return distribution;
}

// Latency of each request relative to the mean of its output length, by order, median over trials.
Trace latency_trace(const std::string& configuration, const std::vector<const study::TrialRecord*>& trials) {
  std::map<int64_t, std::vector<double>> by_length;
  for (const study::TrialRecord* trial : trials) {
    for (const study::RequestRecord& request : trial->requests) {
      if (const auto latency = study::e2el_ms(request)) by_length[request.output_tokens].push_back(*latency);
    }
  }
  std::map<int, std::vector<double>> by_order;
  for (const study::TrialRecord* trial : trials) {
    for (const study::RequestRecord& request : trial->requests) {
      const auto latency = study::e2el_ms(request);
      if (!latency) continue;
      const double usual = study::mean(by_length[request.output_tokens]);
      if (usual > 0) by_order[request.index].push_back(*latency / usual);
    }
  }
  Trace trace{configuration, {}, {}};
  for (const auto& [order, relative] : by_order) {
    trace.x.push_back(order + 1);
    trace.y.push_back(study::percentile(relative, 0.5));
  }
  return trace;
}

}  // namespace

Traces collect_traces(const study::StoredStudy& stored, const study::StudyResult& study) {
  Traces traces;
  for (const char* metric : {"ttft_ms", "itl_ms"}) {
    const study::MetricInfo* info = study::find_metric(metric);
    if (info == nullptr) continue;
    const auto scenario = study::home_scenario(*info, study.spec.scenarios);
    if (!scenario) continue;
    // A pooled metric mixes scenarios: its distribution is drawn for the study's first one.
    const std::string shown =
        scenario->empty() && !study.spec.scenarios.empty() ? study.spec.scenarios.front().name : *scenario;
    Distribution distribution = collect_distribution(stored, study, metric, shown);
    if (!distribution.traces.empty()) traces.distributions.push_back(std::move(distribution));
  }
  traces.latency_scenario = "stability";
  for (const study::ConfigurationResult& configuration : study.configurations) {
    Trace trace =
        latency_trace(configuration.name, valid_trials(stored, configuration.name, traces.latency_scenario));
    if (!trace.x.empty()) traces.latency_order.push_back(std::move(trace));
  }
  return traces;
}

}  // namespace crible::report
