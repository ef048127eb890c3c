#include "study/record/summary.h"

#include <algorithm>
#include <cmath>

namespace crible::study {
namespace {

// Interval of the pooled median: as wide as the block values vary, centred on it. On the log scale
// where every value is positive.
std::optional<Interval> interval_of_median(double median, const std::vector<double>& block_values,
                                           MetricScale scale) {
  const bool logarithmic = scale == MetricScale::kLog && std::ranges::min(block_values) > 0;
  std::vector<double> values = block_values;
  if (logarithmic) {
    for (double& value : values) value = std::log(value);
  }
  const std::optional<Interval> around_mean = t_interval(values, 0.95);
  if (!around_mean) return std::nullopt;
  const double half = (around_mean->high - around_mean->low) / 2;
  if (logarithmic) return Interval{median * std::exp(-half), median * std::exp(half)};
  return Interval{median - half, median + half};
}

// For a rate the pooled rate stands in the place of the median, with its exact interval.
void summarise_rate(RequestCounts counts, MetricSummary& summary) {
  summary.n = counts.requests;
  summary.p50 = static_cast<double>(counts.failed) / static_cast<double>(counts.requests);
  summary.mean = summary.p50;
  summary.p90.reset();
  summary.p99.reset();
  summary.ci95 = clopper_pearson(counts.failed, counts.requests, 0.95);
}

std::optional<double> median_of(const std::vector<double>& samples) {
  if (samples.empty()) return std::nullopt;
  return percentile(samples, 0.5);
}

}  // namespace

std::optional<MetricSummary> summarise(const Measurements& measurements,
                                       const std::string& configuration, const MetricInfo& metric,
                                       const std::string& scenario) {
  const Measurements::BlockSamples& by_block =
      measurements.samples(configuration, scenario, metric.name);
  if (by_block.empty()) return std::nullopt;
  const std::vector<double> all = pooled(by_block);
  MetricSummary summary;
  summary.scenario = scenario;
  summary.n = static_cast<int64_t>(all.size());
  summary.p50 = percentile(all, 0.5);
  summary.p90 = supported_percentile(all, 0.90);
  summary.p99 = supported_percentile(all, 0.99);
  summary.mean = mean(all);
  summary.min = std::ranges::min(all);
  summary.max = std::ranges::max(all);
  const MetricReference reference{scenario, std::string(metric.name),
                                  std::string(metric.default_statistic)};
  for (const auto& [block, value] : measurements.block_values(configuration, reference)) {
    summary.blocks.push_back(block);
    summary.block_values.push_back(value);
  }
  summary.ci95 = interval_of_median(summary.p50, summary.block_values, metric.scale);
  if (metric.scale == MetricScale::kProportion) {
    summarise_rate(measurements.counts(configuration, scenario), summary);
  }
  summary.trial_ids = measurements.trial_ids(configuration, scenario);
  return summary;
}

std::vector<LoadPoint> load_curve(const std::vector<TrialRecord>& trials,
                                  const std::string& configuration) {
  struct Gathered {
    std::vector<double> tokens_per_s, requests_per_s, ttft_ms, itl_ms, e2el_ms;
    int64_t requests = 0, failed = 0;
  };
  std::map<int, Gathered> by_level;
  const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const TrialRecord& trial : trials) {
    if (trial.configuration != configuration || trial.scenario != "concurrency" ||
        !trial.validity.valid) {
      continue;
    }
    for (const LevelRates& rates : rates_by_level(trial)) {
      Gathered& gathered = by_level[rates.level];
      gathered.tokens_per_s.push_back(rates.output_tokens_per_s);
      gathered.requests_per_s.push_back(rates.requests_per_s);
      append(gathered.ttft_ms, rates.ttft_ms);
      append(gathered.itl_ms, rates.itl_ms);
      append(gathered.e2el_ms, rates.e2el_ms);
      gathered.requests += rates.requests;
      gathered.failed += rates.failed_requests;
    }
  }
  std::vector<LoadPoint> curve;
  for (const auto& [level, gathered] : by_level) {
    LoadPoint point;
    point.level = level;
    point.output_tokens_per_s = percentile(gathered.tokens_per_s, 0.5);
    point.requests_per_s = percentile(gathered.requests_per_s, 0.5);
    point.ttft_p50_ms = median_of(gathered.ttft_ms);
    point.itl_p50_ms = median_of(gathered.itl_ms);
    point.e2el_p50_ms = median_of(gathered.e2el_ms);
    point.requests = gathered.requests;
    point.failed_requests = gathered.failed;
    curve.push_back(point);
  }
  return curve;
}

}  // namespace crible::study
