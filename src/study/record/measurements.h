// The metric values of a study, gathered by configuration, scenario and block. Invalid trials, and
// trials of configurations that the spec does not have, are left out. Internal to the analysis.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "study/record/metrics.h"
#include "study/record/spec.h"
#include "study/record/trial.h"

namespace crible::study {

struct RequestCounts {
  int64_t failed = 0;
  int64_t requests = 0;
};

class Measurements {
 public:
  using BlockSamples = std::map<int, std::vector<double>>;  // block -> samples of its trials

  Measurements(const StudySpec& spec, const std::vector<TrialRecord>& trials);

  // Scenario "" stands for all of them, and exists only for metrics without scenarios of their
  // own. Empty when nothing was measured.
  const BlockSamples& samples(const std::string& configuration, const std::string& scenario,
                              std::string_view metric) const;
  RequestCounts counts(const std::string& configuration, const std::string& scenario) const;
  // Block -> value of the statistic in that block. For a proportion, the rate of the block.
  std::map<int, double> block_values(const std::string& configuration,
                                     const MetricReference& reference) const;
  const std::vector<std::string>& trial_ids(const std::string& configuration,
                                            const std::string& scenario) const;

 private:
  using Place = std::pair<std::string, std::string>;  // configuration, scenario
  void add(const TrialRecord& trial, const TrialMetrics& metrics, const std::string& scenario);

  std::map<std::tuple<std::string, std::string, std::string>, BlockSamples> samples_;
  std::map<Place, std::map<int, RequestCounts>> counts_;
  std::map<Place, std::vector<std::string>> trial_ids_;
};

std::vector<double> pooled(const Measurements::BlockSamples& samples);
double statistic_of(const std::vector<double>& samples, std::string_view statistic);

}  // namespace crible::study
