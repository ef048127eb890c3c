#include "study/record/metrics.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "study/record/gpu_use.h"

namespace crible::study {
namespace {

constexpr double kHitShare = 0.5;   // of the prompt, from the cache: at least this makes a HIT
constexpr double kMissShare = 0.1;  // at most this still makes a MISS
// A stream with fewer frames than this share of its tokens carries several tokens per frame; its
// gaps are between frames, not between tokens.
constexpr double kFramesPerToken = 0.9;
constexpr const char* kPreemptionCounter = "vllm:num_preemptions_total";

double ns_to_ms(int64_t ns) { return static_cast<double>(ns) / 1e6; }

std::optional<double> elapsed_ms(const RequestRecord& request, int64_t from_ns, int64_t to_ns) {
  if (request.status != RequestStatus::kOk || to_ns == kUnset || to_ns < from_ns) {
    return std::nullopt;
  }
  return ns_to_ms(to_ns - from_ns);
}

bool failed(const RequestRecord& request) {
  return request.status == RequestStatus::kError || request.status == RequestStatus::kTimeout;
}

// Cancelled requests were given up by the client on purpose: neither success nor failure.
bool judged(const RequestRecord& request) { return request.status != RequestStatus::kCancelled; }

bool one_token_per_frame(const RequestRecord& request) {
  const auto frames = static_cast<double>(request.token_gaps_ns.size() + 1);
  return frames >= kFramesPerToken * static_cast<double>(request.output_tokens);
}

std::optional<double> level_value(const RequestRecord& request, std::string_view metric) {
  if (metric == "ttft_ms") return ttft_ms(request);
  if (metric == "ttfo_ms") return ttfo_ms(request);
  if (metric == "e2el_ms") return e2el_ms(request);
  // A request of a single token has no gap and no time per further token: nothing to violate.
  if (metric == "tpot_ms") return request.output_tokens > 1 ? tpot_ms(request) : 0.0;
  CHECK(metric == "itl_ms", "service level on {}", metric);
  if (request.token_gaps_ns.empty()) return 0.0;
  return ns_to_ms(std::ranges::max(request.token_gaps_ns));
}

bool meets(const RequestRecord& request, std::span<const ServiceLevel> levels) {
  if (request.status != RequestStatus::kOk) return false;
  return std::ranges::all_of(levels, [&](const ServiceLevel& level) {
    const std::optional<double> value = level_value(request, level.metric);
    return value && *value <= level.at_most;
  });
}

// Requests of one concurrency level and the time that they took together: from the first send to
// the last end. 0 when nothing was sent.
struct LevelWindow {
  std::vector<const RequestRecord*> requests;
  int64_t first_send_ns = INT64_MAX;
  int64_t last_end_ns = INT64_MIN;

  double seconds() const {
    return last_end_ns > first_send_ns ? static_cast<double>(last_end_ns - first_send_ns) / 1e9 : 0;
  }
};

std::map<int, LevelWindow> windows_by_level(const TrialRecord& trial) {
  std::map<int, LevelWindow> windows;
  for (const RequestRecord& request : trial.requests) {
    LevelWindow& window = windows[request.level];
    window.requests.push_back(&request);
    window.first_send_ns = std::min(window.first_send_ns, request.actual_send_ns);
    window.last_end_ns = std::max({window.last_end_ns, request.end_ns, request.last_token_ns});
  }
  return windows;
}

class Collector {
 public:
  explicit Collector(TrialMetrics& metrics) : metrics_(metrics) {}
  void add(std::string_view metric, std::optional<double> value) {
    if (!value) return;
    auto found = metrics_.samples.find(metric);
    if (found == metrics_.samples.end()) {
      found = metrics_.samples.emplace(std::string(metric), std::vector<double>()).first;
    }
    found->second.push_back(*value);
  }

 private:
  TrialMetrics& metrics_;
};

void collect_latencies(const TrialRecord& trial, Collector& collect) {
  for (const RequestRecord& request : trial.requests) {
    if (request.status != RequestStatus::kOk) continue;
    collect.add("ttft_ms", ttft_ms(request));
    collect.add("ttft_from_send_ms", ttft_from_send_ms(request));
    collect.add("ttfo_ms", ttfo_ms(request));
    collect.add("e2el_ms", e2el_ms(request));
    collect.add("tpot_ms", tpot_ms(request));
    for (const int64_t gap : request.token_gaps_ns) {
      collect.add("icl_ms", ns_to_ms(gap));
      if (one_token_per_frame(request)) collect.add("itl_ms", ns_to_ms(gap));
    }
  }
}

void collect_cache_pairs(const TrialRecord& trial, Collector& collect) {
  std::map<std::string, const RequestRecord*> misses;
  for (const RequestRecord& request : trial.requests) {
    if (request.role != CacheRole::kMiss || !confirmed_miss(request)) continue;
    collect.add("ttft_miss_ms", ttft_ms(request));
    if (!request.pair_id.empty()) misses[request.pair_id] = &request;
  }
  for (const RequestRecord& request : trial.requests) {
    if (request.role != CacheRole::kHit) continue;
    collect.add("ttft_repeat_ms", ttft_ms(request));
    if (!confirmed_hit(request)) continue;
    const std::optional<double> hit = ttft_ms(request);
    collect.add("ttft_hit_ms", hit);
    const auto miss = misses.find(request.pair_id);
    if (miss == misses.end() || !hit || *hit <= 0) continue;
    const std::optional<double> miss_ttft = ttft_ms(*miss->second);
    if (miss_ttft) collect.add("acceleration", *miss_ttft / *hit);
  }
}

void collect_throughput(const TrialRecord& trial, std::span<const ServiceLevel> service_levels,
                        Collector& collect) {
  std::optional<double> tokens, requests, good;
  for (const auto& [level, window] : windows_by_level(trial)) {
    if (window.seconds() == 0) continue;
    int64_t output_tokens = 0, completed = 0, within = 0;
    for (const RequestRecord* request : window.requests) {
      if (request->status != RequestStatus::kOk) continue;
      output_tokens += request->output_tokens;
      ++completed;
      within += meets(*request, service_levels);
    }
    if (completed > 0) {
      tokens = std::max(tokens.value_or(0), static_cast<double>(output_tokens) / window.seconds());
      requests = std::max(requests.value_or(0), static_cast<double>(completed) / window.seconds());
    }
    good = std::max(good.value_or(0), static_cast<double>(within) / window.seconds());
  }
  collect.add("output_tokens_per_s", tokens);
  collect.add("request_throughput", requests);
  if (!service_levels.empty()) collect.add("goodput", good);
}

void collect_cached_share(const TrialRecord& trial, Collector& collect) {
  int64_t prompt = 0, cached = 0;
  for (const RequestRecord& request : trial.requests) {
    if (request.status != RequestStatus::kOk || !request.cached_tokens) continue;
    prompt += request.prompt_tokens;
    cached += *request.cached_tokens;
  }
  if (prompt > 0) {
    collect.add("cached_prompt_share", static_cast<double>(cached) / static_cast<double>(prompt));
  }
}

void collect_memory(const TrialRecord& trial, Collector& collect) {
  int64_t device = kUnset, resident = kUnset;
  std::optional<double> share;
  for (const MemorySample& sample : trial.memory) {
    device = std::max(device, sample.device_used_bytes);
    resident = std::max(resident, sample.server_resident_bytes);
    if (sample.device_used_bytes != kUnset && sample.device_total_bytes > 0) {
      share = std::max(share.value_or(0), static_cast<double>(sample.device_used_bytes) /
                                              static_cast<double>(sample.device_total_bytes));
    }
  }
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  if (device > 0) collect.add("device_memory_mib", mib(device));
  collect.add("device_memory_share", share);
  if (resident > 0) collect.add("server_resident_mib", mib(resident));
}

void collect_preemptions(const TrialRecord& trial, Collector& collect) {
  const auto before = trial.counters_before.find(kPreemptionCounter);
  const auto after = trial.counters_after.find(kPreemptionCounter);
  if (before == trial.counters_before.end() || after == trial.counters_after.end()) return;
  // A counter that went backwards belongs to a restarted server: no statement.
  if (after->second >= before->second) collect.add("preemptions", after->second - before->second);
}

// What every request made counts, whatever became of it: the GPU worked for all of them.
void collect_gpu(const TrialRecord& trial, Collector& collect) {
  const GpuUse use = gpu_use(trial);
  const auto positive = [](std::optional<double> value) { return value && *value > 0 ? value : std::nullopt; };
  collect.add("gpu_power_w", positive(use.mean_power_w));
  collect.add("gpu_power_peak_w", positive(use.peak_power_w));
  if (use.peak_memory_bytes) {
    collect.add("gpu_memory_mib", positive(static_cast<double>(*use.peak_memory_bytes) / kMiB));
  }
  collect.add("gpu_throttled_share", use.throttled_share);
  int64_t output_tokens = 0;
  for (const RequestRecord& request : trial.requests) output_tokens += request.output_tokens;
  if (use.energy_j && output_tokens > 0) {
    collect.add("energy_per_output_token_j", positive(*use.energy_j / static_cast<double>(output_tokens)));
  }
}

// Whether the scenario is one that the metric is defined for.
bool applies(const MetricInfo& metric, const std::string& scenario) {
  return metric.scenarios.empty() ||
         std::ranges::find(metric.scenarios, scenario) != metric.scenarios.end();
}

}  // namespace

std::optional<double> ttft_ms(const RequestRecord& request) {
  return elapsed_ms(request, request.scheduled_ns, request.first_token_ns);
}

std::optional<double> ttft_from_send_ms(const RequestRecord& request) {
  return elapsed_ms(request, request.actual_send_ns, request.first_token_ns);
}

std::optional<double> ttfo_ms(const RequestRecord& request) {
  return elapsed_ms(request, request.scheduled_ns, request.first_output_ns);
}

std::optional<double> e2el_ms(const RequestRecord& request) {
  return elapsed_ms(request, request.scheduled_ns, request.last_token_ns);
}

std::optional<double> tpot_ms(const RequestRecord& request) {
  const std::optional<double> first = ttft_ms(request);
  const std::optional<double> last = e2el_ms(request);
  if (!first || !last || request.output_tokens < 2) return std::nullopt;
  return (*last - *first) / static_cast<double>(request.output_tokens - 1);
}

bool confirmed_hit(const RequestRecord& request) {
  return request.cached_tokens && request.prompt_tokens > 0 &&
         static_cast<double>(*request.cached_tokens) >=
             kHitShare * static_cast<double>(request.prompt_tokens);
}

bool confirmed_miss(const RequestRecord& request) {
  return !request.cached_tokens || static_cast<double>(*request.cached_tokens) <=
                                       kMissShare * static_cast<double>(request.prompt_tokens);
}

TrialMetrics compute_metrics(const TrialRecord& trial,
                             std::span<const ServiceLevel> service_levels) {
  TrialMetrics metrics;
  Collector collect(metrics);
  collect_latencies(trial, collect);
  collect_cache_pairs(trial, collect);
  collect_throughput(trial, service_levels, collect);
  collect_cached_share(trial, collect);
  collect_memory(trial, collect);
  collect_gpu(trial, collect);
  collect_preemptions(trial, collect);
  if (const std::optional<Slope> slope = latency_slope(trial)) {
    collect.add("latency_slope", slope->value);
  }
  for (const RequestRecord& request : trial.requests) {
    metrics.requests += judged(request);
    metrics.failed_requests += failed(request);
  }
  if (metrics.requests > 0) {
    collect.add("error_rate", static_cast<double>(metrics.failed_requests) /
                                  static_cast<double>(metrics.requests));
  }
  std::erase_if(metrics.samples, [&](const auto& entry) {
    const MetricInfo* metric = find_metric(entry.first);
    CHECK(metric != nullptr, "{} is not in the metric table", entry.first);
    return !applies(*metric, trial.scenario);
  });
  // The order of the record must not show in a sum's last bit.
  for (auto& [name, samples] : metrics.samples) std::ranges::sort(samples);
  return metrics;
}

std::optional<Slope> latency_slope(const TrialRecord& trial) {
  struct Point {
    std::pair<int64_t, int> sent;  // time, then index among requests sent at once
    double latency_ms;
    double output_tokens;
  };
  std::vector<Point> points;
  for (const RequestRecord& request : trial.requests) {
    if (const std::optional<double> latency = e2el_ms(request)) {
      points.push_back({{request.actual_send_ns, request.index},
                        *latency,
                        static_cast<double>(request.output_tokens)});
    }
  }
  if (points.empty()) return std::nullopt;
  std::ranges::sort(points, {}, &Point::sent);
  std::vector<double> order, latency, tokens;
  for (size_t i = 0; i < points.size(); ++i) {
    order.push_back(static_cast<double>(i));
    latency.push_back(points[i].latency_ms);
    tokens.push_back(points[i].output_tokens);
  }
  const bool same_length = std::ranges::min(tokens) == std::ranges::max(tokens);
  std::optional<Slope> slope = least_squares_slope(
      order, latency, same_length ? std::span<const double>() : std::span<const double>(tokens), 0.95);
  const double level = mean(latency);
  if (!slope || !(level > 0)) return std::nullopt;
  const double to_percent = 100 / level;
  return Slope{slope->value * to_percent,
               {slope->interval.low * to_percent, slope->interval.high * to_percent}};
}

std::vector<LevelRates> rates_by_level(const TrialRecord& trial) {
  std::vector<LevelRates> rates;
  for (const auto& [level, window] : windows_by_level(trial)) {
    LevelRates rate;
    rate.level = level;
    int64_t output_tokens = 0, completed = 0;
    for (const RequestRecord* request : window.requests) {
      rate.requests += judged(*request);
      rate.failed_requests += failed(*request);
      if (request->status != RequestStatus::kOk) continue;
      ++completed;
      output_tokens += request->output_tokens;
      if (const auto value = ttft_ms(*request)) rate.ttft_ms.push_back(*value);
      if (const auto value = e2el_ms(*request)) rate.e2el_ms.push_back(*value);
      if (!one_token_per_frame(*request)) continue;
      for (const int64_t gap : request->token_gaps_ns) rate.itl_ms.push_back(ns_to_ms(gap));
    }
    if (window.seconds() > 0) {
      rate.output_tokens_per_s = static_cast<double>(output_tokens) / window.seconds();
      rate.requests_per_s = static_cast<double>(completed) / window.seconds();
    }
    rates.push_back(std::move(rate));
  }
  return rates;
}

}  // namespace crible::study
