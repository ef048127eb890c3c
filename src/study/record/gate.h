// Constraints of an objective, checked against what a configuration's sample can show. Internal to
// the analysis.
#pragma once

#include <string>

#include "study/record/measurements.h"
#include "study/record/verdict.h"

namespace crible::study {

// Confidence (one-sided) at which a rate or a mean must meet its bound to count as shown; for
// percentiles of requests it is stricter: the p99 of a service is a promise about its tail.
inline constexpr double kGateConfidence = 0.95;
inline constexpr double kPercentileConfidence = 0.99;

ConstraintResult check_constraint(const ConstraintSpec& constraint, const std::string& configuration,
                                  const Measurements& measurements);

}  // namespace crible::study
