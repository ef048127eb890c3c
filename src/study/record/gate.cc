#include "study/record/gate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace crible::study {
namespace {

bool holds(const ConstraintSpec& constraint, double value) {
  return constraint.relation == Relation::kAtMost ? value <= constraint.bound
                                                  : value >= constraint.bound;
}

ConstraintState state_of(const ConstraintSpec& constraint, const ConstraintResult& result) {
  if (!result.observed) return ConstraintState::kUnmeasured;
  if (!holds(constraint, *result.observed)) return ConstraintState::kViolated;
  if (result.bound_shown && holds(constraint, *result.bound_shown)) return ConstraintState::kMet;
  return ConstraintState::kNotShown;
}

// Samples without a single violation that show a rate of violations of at most `rate`. 0 when no
// number of them can.
int64_t needed_for_rate(double rate, double confidence) {
  return rate > 0 && rate < 1 ? samples_needed(1 - rate, confidence) : 0;
}

void check_proportion(const ConstraintSpec& constraint, RequestCounts counts,
                      ConstraintResult& result) {
  result.n = counts.requests;
  if (counts.requests == 0) return;
  result.observed = static_cast<double>(counts.failed) / static_cast<double>(counts.requests);
  const bool at_most = constraint.relation == Relation::kAtMost;
  result.bound_shown =
      at_most ? rate_upper_bound(counts.failed, counts.requests, result.confidence)
              : rate_lower_bound(counts.failed, counts.requests, result.confidence);
  result.n_needed =
      needed_for_rate(at_most ? constraint.bound : 1 - constraint.bound, result.confidence);
}

// A percentile's bound holds when few enough requests break it: "p99 <= b" says that at most 1% lie
// above b. bound_shown is the distribution-free confidence bound of the percentile itself: the order
// statistic whose rank leaves the percentile beyond it with at most 1 - confidence.
void check_percentile(const ConstraintSpec& constraint, std::vector<double> samples, double rank,
                      ConstraintResult& result) {
  result.n = static_cast<int64_t>(samples.size());
  result.confidence = kPercentileConfidence;
  if (samples.empty()) return;
  std::ranges::sort(samples);
  result.observed = percentile(samples, rank);
  const bool at_most = constraint.relation == Relation::kAtMost;
  const double allowed = at_most ? 1 - rank : rank;
  result.n_needed = needed_for_rate(allowed, result.confidence);
  // k samples beyond the order statistic, the largest k that still shows a rate within `allowed`.
  std::optional<int64_t> most_beyond;
  for (int64_t k = 0; k < result.n; ++k) {
    if (rate_upper_bound(k, result.n, result.confidence) > allowed) break;
    most_beyond = k;
  }
  if (!most_beyond) return;
  const int64_t index = at_most ? result.n - 1 - *most_beyond : *most_beyond;
  result.bound_shown = samples[static_cast<size_t>(index)];
}

// Statistics that stand for themselves (largest, smallest) are met as observed; a mean, or a value
// per trial, by the t bound over blocks.
void check_block_values(const ConstraintSpec& constraint, const std::map<int, double>& by_block,
                        ConstraintResult& result) {
  std::vector<double> values;
  for (const auto& [block, value] : by_block) values.push_back(value);
  result.n = static_cast<int64_t>(values.size());
  if (values.empty()) return;
  const std::string& statistic = constraint.reference.statistic;
  if (statistic == "max" || statistic == "min") {
    result.observed = statistic_of(values, statistic);
    result.bound_shown = result.observed;
    return;
  }
  result.observed = mean(values);
  const std::optional<Interval> interval = t_interval(values, 2 * result.confidence - 1);
  if (!interval) {
    result.n_needed = 2;
    return;
  }
  result.bound_shown =
      constraint.relation == Relation::kAtMost ? interval->high : interval->low;
}

}  // namespace

ConstraintResult check_constraint(const ConstraintSpec& constraint,
                                  const std::string& configuration,
                                  const Measurements& measurements) {
  const MetricReference& reference = constraint.reference;
  const MetricInfo* metric = find_metric(reference.metric);
  CHECK(metric != nullptr, "{}", reference.metric);
  ConstraintResult result;
  result.constraint = constraint;
  result.configuration = configuration;
  result.confidence = kGateConfidence;
  const std::optional<double> rank = percentile_rank(reference.statistic);
  if (metric->scale == MetricScale::kProportion) {
    check_proportion(constraint, measurements.counts(configuration, reference.scenario), result);
  } else if (rank && metric->grain == MetricGrain::kSample) {
    check_percentile(
        constraint,
        pooled(measurements.samples(configuration, reference.scenario, reference.metric)), *rank,
        result);
  } else {
    check_block_values(constraint, measurements.block_values(configuration, reference), result);
  }
  result.state = state_of(constraint, result);
  return result;
}

}  // namespace crible::study
