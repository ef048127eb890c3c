#include <algorithm>
#include <array>
#include <utility>

#include "study/record/metrics.h"

namespace crible::study {
namespace {

constexpr auto kLower = Direction::kLowerIsBetter;
constexpr auto kHigher = Direction::kHigherIsBetter;
constexpr auto kLog = MetricScale::kLog;
constexpr auto kLinear = MetricScale::kLinear;
constexpr auto kProportion = MetricScale::kProportion;
constexpr auto kSample = MetricGrain::kSample;
constexpr auto kTrial = MetricGrain::kTrial;

std::vector<MetricInfo> make_table() {
  const std::vector<std::string_view> pairs = {"kv_cache"};
  const std::vector<std::string_view> chat = {"conversation", "concurrency", "stability"};
  const std::vector<std::string_view> load = {"concurrency", "conversation", "stability"};
  const std::vector<std::string_view> over_time = {"stability"};
  const std::vector<std::string_view> cached = {"conversation", "kv_cache", "concurrency",
                                                "stability"};
  return {
      {"ttft_miss_ms", "ms", kLower, kLog, kSample, "p50", pairs,
       "time to the first token of a prompt that is not in the prefix cache"},
      {"ttft_hit_ms", "ms", kLower, kLog, kSample, "p50", pairs,
       "time to the first token of a prompt whose prefix the server confirms to be cached"},
      {"ttft_repeat_ms", "ms", kLower, kLog, kSample, "p50", pairs,
       "time to the first token when a prefix is sent again, cached or not: what the user feels"},
      {"acceleration", "", kHigher, kLog, kSample, "p50", pairs,
       "TTFT of a MISS over TTFT of its confirmed HIT, pair by pair"},
      {"ttft_ms", "ms", kLower, kLog, kSample, "p50", chat,
       "time from the scheduled send to the first token of any kind"},
      {"ttft_from_send_ms", "ms", kLower, kLog, kSample, "p50", chat,
       "time from the actual send to the first token of any kind"},
      {"ttfo_ms", "ms", kLower, kLog, kSample, "p50", chat,
       "time from the scheduled send to the first token that is not reasoning"},
      {"e2el_ms", "ms", kLower, kLog, kSample, "p50", chat,
       "time from the scheduled send to the last token"},
      {"tpot_ms", "ms", kLower, kLog, kSample, "p50", chat,
       "mean time per output token after the first, per request"},
      {"itl_ms", "ms", kLower, kLog, kSample, "p50", load,
       "gaps between tokens, pooled; only from streams that carry one token per frame"},
      {"icl_ms", "ms", kLower, kLog, kSample, "p50", load,
       "gaps between stream frames, pooled"},
      {"output_tokens_per_s", "tokens/s", kHigher, kLog, kTrial, "mean", load,
       "output tokens of all streams per second, at the best concurrency level"},
      {"request_throughput", "requests/s", kHigher, kLog, kTrial, "mean", load,
       "completed requests per second, at the best concurrency level"},
      {"goodput", "requests/s", kHigher, kLinear, kTrial, "mean", load,
       "requests per second that meet every service level, at the best concurrency level"},
      {"cached_prompt_share", "", kHigher, kLinear, kTrial, "mean", cached,
       "share of the prompt tokens that came from the prefix cache"},
      {"latency_slope", "%/request", kLower, kLinear, kTrial, "mean", over_time,
       "growth of end-to-end latency per request, adjusted for output length"},
      {"error_rate", "", kLower, kProportion, kTrial, "mean", {},
       "failed and timed-out requests among all"},
      {"preemptions", "", kLower, kLinear, kTrial, "mean", {},
       "sequences that the server pre-empted during a trial"},
      {"device_memory_mib", "MiB", kLower, kLog, kTrial, "max", {},
       "largest device memory in use during a trial"},
      {"device_memory_share", "", kLower, kLinear, kTrial, "max", {},
       "the same as a share of the device's memory"},
      {"server_resident_mib", "MiB", kLower, kLog, kTrial, "max", {},
       "largest resident host memory of the server during a trial"},
      {"energy_per_output_token_j", "J/token", kLower, kLog, kTrial, "mean", load,
       "energy of the GPUs over a trial, prompts included, per output token", true},
      {"gpu_power_w", "W", kLower, kLog, kTrial, "mean", {},
       "mean power of the GPUs over a trial", true},
      {"gpu_power_peak_w", "W", kLower, kLog, kTrial, "max", {},
       "largest power reading of the GPUs during a trial", true},
      {"gpu_memory_mib", "MiB", kLower, kLog, kTrial, "max", {},
       "largest memory of the GPUs in use during a trial, as their driver counts it, all processes together",
       true},
      {"gpu_throttled_share", "", kLower, kLinear, kTrial, "mean", {},
       "share of a trial in which the power limit, heat or the power supply held the clocks down", true},
  };
}

constexpr std::array<std::pair<std::string_view, double>, 4> kPercentiles{
    {{"p50", 0.50}, {"p90", 0.90}, {"p95", 0.95}, {"p99", 0.99}}};

}  // namespace

std::span<const MetricInfo> metric_table() {
  static const std::vector<MetricInfo> table = make_table();
  return table;
}

const MetricInfo* find_metric(std::string_view name) {
  for (const MetricInfo& metric : metric_table()) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

std::optional<std::string> home_scenario(const MetricInfo& metric,
                                         std::span<const ScenarioSpec> scenarios) {
  if (metric.scenarios.empty()) return "";
  for (const std::string_view candidate : metric.scenarios) {
    if (std::ranges::find(scenarios, candidate, &ScenarioSpec::name) != scenarios.end()) {
      return std::string(candidate);
    }
  }
  return std::nullopt;
}

std::optional<double> percentile_rank(std::string_view statistic) {
  for (const auto& [name, rank] : kPercentiles) {
    if (name == statistic) return rank;
  }
  return std::nullopt;
}

bool is_statistic(std::string_view name) {
  return percentile_rank(name).has_value() || name == "mean" || name == "min" || name == "max";
}

}  // namespace crible::study
