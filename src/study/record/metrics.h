// The metrics of a study, and how each is computed from a trial's records. One table names them
// all: spec validation, analysis and report read it. Pure functions; the order of the requests in
// a record does not matter.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "study/record/spec.h"
#include "study/record/statistics.h"
#include "study/record/trial.h"

namespace crible::study {

enum class Direction { kLowerIsBetter, kHigherIsBetter };
// Log: positive, compared by ratio. Linear: may be zero or negative, compared by difference.
// Proportion: events among requests, with exact binomial bounds.
enum class MetricScale { kLog, kLinear, kProportion };
// One value per request (or per pair, or per token gap), or one value per trial.
enum class MetricGrain { kSample, kTrial };

struct MetricInfo {
  std::string_view name;
  std::string_view unit;  // "ms", "tokens/s", "MiB", "" for a ratio
  Direction direction;
  MetricScale scale;
  MetricGrain grain;
  std::string_view default_statistic;
  // Scenarios that it comes from, home first; empty: every scenario, pooled.
  std::vector<std::string_view> scenarios;
  std::string_view help;
  // Needs a GPU: reports leave it out where no configuration has a value.
  bool of_gpu = false;
};

std::span<const MetricInfo> metric_table();
const MetricInfo* find_metric(std::string_view name);  // nullptr when unknown
// The spec's first scenario among the metric's own; "" for pooled ones; nothing when the study
// has none of them.
std::optional<std::string> home_scenario(const MetricInfo& metric,
                                         std::span<const ScenarioSpec> scenarios);
// "p50" "p90" "p95" "p99" -> 0.5 ... ; nothing for mean, min, max.
std::optional<double> percentile_rank(std::string_view statistic);
bool is_statistic(std::string_view name);

struct TrialMetrics {
  // Metric name -> samples. One value for per-trial metrics. Absent: not measured here.
  std::map<std::string, std::vector<double>, std::less<>> samples;
  int64_t failed_requests = 0;
  int64_t requests = 0;
};

TrialMetrics compute_metrics(const TrialRecord& trial, std::span<const ServiceLevel> service_levels);

// Per-request definitions (milliseconds). Latencies run from the scheduled send time; nothing when
// the request failed or never got there.
std::optional<double> ttft_ms(const RequestRecord& request);
std::optional<double> ttfo_ms(const RequestRecord& request);
std::optional<double> e2el_ms(const RequestRecord& request);
std::optional<double> tpot_ms(const RequestRecord& request);
// The same from the actual send time: what the server alone took.
std::optional<double> ttft_from_send_ms(const RequestRecord& request);

// The server's word on the role: a HIT has at least half of its prompt from the cache, a MISS at
// most a tenth (or no count at all).
bool confirmed_hit(const RequestRecord& request);
bool confirmed_miss(const RequestRecord& request);

// Growth of E2EL per request sent, in percent of the trial's mean E2EL, adjusted for output
// length (least squares on order and output tokens).
std::optional<Slope> latency_slope(const TrialRecord& trial);

// Requests of one concurrency level.
struct LevelRates {
  int level = 0;
  double output_tokens_per_s = 0;
  double requests_per_s = 0;
  int64_t requests = 0;
  int64_t failed_requests = 0;
  std::vector<double> ttft_ms;
  std::vector<double> itl_ms;
  std::vector<double> e2el_ms;
};
std::vector<LevelRates> rates_by_level(const TrialRecord& trial);  // by level, ascending

}  // namespace crible::study
