// Summaries of what was measured: per metric, and per concurrency level. Internal to the analysis.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "study/record/measurements.h"
#include "study/record/study_result.h"

namespace crible::study {

// Nothing when the configuration has no sample of the metric in the scenario.
std::optional<MetricSummary> summarise(const Measurements& measurements,
                                       const std::string& configuration, const MetricInfo& metric,
                                       const std::string& scenario);

// The load curve of one configuration, over its valid concurrency trials.
std::vector<LoadPoint> load_curve(const std::vector<TrialRecord>& trials,
                                  const std::string& configuration);

}  // namespace crible::study
