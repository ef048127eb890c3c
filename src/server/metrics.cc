#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/process.h"

namespace crible {
namespace {

// vLLM's buckets, so that the same queries give comparable quantiles.
constexpr double kFirstTokenBounds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                                        1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
constexpr double kTokenBounds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                   0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
constexpr double kRequestBounds[] = {0.3,  0.5,  0.8,  1.0,  1.5,  2.0,   2.5,   5.0,   10.0,  15.0,  20.0,
                                     30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};

std::string label_value(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n') {
      escaped += "\\n";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

class Exposition {
 public:
  explicit Exposition(std::string_view model_name)
      : labels_(fmt::format("engine=\"0\",model_name=\"{}\"", label_value(model_name))) {}

  void family(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(out_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  template <typename Number>
  void sample(std::string_view name, Number value, std::string_view more_labels = {}) {
    fmt::format_to(std::back_inserter(out_), "{}{{{}{}{}}} {}\n", name, labels_, more_labels.empty() ? "" : ",",
                   more_labels, value);
  }
  template <typename Number>
  void gauge(std::string_view name, Number value, std::string_view help) {
    family(name, "gauge", help);
    sample(name, value);
  }
  template <typename Number>
  void counter(std::string_view name, Number value, std::string_view help) {
    family(name, "counter", help);
    sample(name, value);
  }
  void histogram(std::string_view name, const Histogram& h, std::string_view help) {
    histogram(name, h.bounds(), std::span<const int64_t>(h.cumulative()), h.sum(), help);
  }
  // cumulative: at or below each bound, then all.
  template <typename Bound, typename Sum>
  void histogram(std::string_view name, std::span<const Bound> bounds, std::span<const int64_t> cumulative, Sum sum,
                 std::string_view help) {
    family(name, "histogram", help);
    const std::string bucket = fmt::format("{}_bucket", name);
    for (size_t i = 0; i < bounds.size(); ++i) sample(bucket, cumulative[i], fmt::format("le=\"{}\"", bounds[i]));
    sample(bucket, cumulative.back(), "le=\"+Inf\"");
    sample(fmt::format("{}_sum", name), sum);
    sample(fmt::format("{}_count", name), cumulative.back());
  }
  std::string take() { return std::move(out_); }

 private:
  std::string labels_;
  std::string out_;
};

// Spelt as vLLM's exporter does: underscores, True and False.
std::string setting_text(const field::Value& value) {
  if (const bool* flag = std::get_if<bool>(&value)) return *flag ? "True" : "False";
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return field::to_json(value).dump();
}

std::string cache_config_labels(const EngineDescription& description) {
  std::string labels;
  const EngineConfig& config = description.effective;
  for (const auto& f : engine_fields().fields()) {
    std::string name(f.name);
    std::replace(name.begin(), name.end(), '-', '_');
    labels += fmt::format("{}=\"{}\",", name, label_value(setting_text(FieldTable<EngineConfig>::get(config, f))));
  }
  labels += fmt::format("cache_dtype=\"{}\",num_gpu_blocks=\"{}\"", label_value(config.kv_cache_dtype),
                        description.plan.num_blocks);
  return labels;
}

void render_engine(Exposition& out, const EngineStats& stats, const EngineDescription& description) {
  out.gauge("vllm:num_requests_running", stats.running, "Sequences in execution.");
  out.gauge("vllm:num_requests_waiting", stats.waiting, "Sequences waiting to be scheduled.");
  const double used = stats.kv_blocks_total > 0
                          ? static_cast<double>(stats.kv_blocks_used) / static_cast<double>(stats.kv_blocks_total)
                          : 0.0;
  out.gauge("vllm:kv_cache_usage_perc", used, "Share of KV cache blocks in use; 1 means all.");
  out.family("vllm:cache_config_info", "gauge", "The settings in effect, as labels.");
  out.sample("vllm:cache_config_info", 1, cache_config_labels(description));
  out.counter("vllm:prefix_cache_queries_total", stats.prefix_queries_tokens,
              "Prompt tokens looked up in the prefix cache.");
  out.counter("vllm:prefix_cache_hits_total", stats.prefix_hit_tokens, "Prompt tokens found in the prefix cache.");
  out.counter("vllm:prompt_tokens_total", stats.prompt_tokens, "Prompt tokens of scheduled sequences.");
  out.counter("vllm:generation_tokens_total", stats.generation_tokens, "Tokens generated.");
  out.counter("vllm:num_preemptions_total", stats.preemptions, "Sequences pre-empted and computed again.");
  auto steps = stats.steps_by_tokens;
  std::partial_sum(steps.begin(), steps.end(), steps.begin());
  out.histogram("vllm:iteration_tokens_total", std::span<const int64_t>(kStepTokensBounds),
                std::span<const int64_t>(steps), stats.step_tokens, "Tokens of one engine step.");
  out.counter("crible:restored_prefix_blocks_total", stats.restored_prefix_blocks,
              "Blocks that prefix-cache-file held at the start.");
  out.counter("crible:computed_prompt_tokens_total", stats.computed_prompt_tokens,
              "Prompt tokens that ran through the model.");
  out.counter("crible:engine_steps_total", stats.steps, "Engine steps.");
  out.counter("crible:engine_steps_ahead_total", stats.steps_ahead,
              "Engine steps that were launched while the one before was still under way.");
  out.counter("crible:engine_step_seconds_total", stats.step_seconds, "Time spent in engine steps.");
  out.counter("crible:engine_device_wait_seconds_total", stats.device_wait_seconds,
              "Of the time in steps, that spent waiting for the device.");
  out.counter("crible:reconfigurations_total", stats.reconfigurations, "Live changes of configuration.");
  out.gauge("crible:last_reconfigure_seconds", stats.last_reconfigure_seconds,
            "How long the latest live change took.");
  out.gauge("crible:kv_blocks_used", stats.kv_blocks_used, "KV cache blocks in use.");
  out.gauge("crible:kv_blocks_total", stats.kv_blocks_total, "KV cache blocks of the pool.");
}

void render_memory(Exposition& out, const MemoryPlan& plan) {
  out.family("crible:memory_plan_bytes", "gauge", "Terms of the memory plan.");
  const std::pair<std::string_view, int64_t> terms[] = {
      {"device", plan.device_bytes},         {"budget", plan.budget_bytes}, {"weights", plan.weight_bytes},
      {"activations", plan.activation_bytes}, {"runtime", plan.runtime_bytes},
      {"kv_cache", plan.kv_bytes},            {"planned", plan.planned_bytes()}};
  for (const auto& [term, bytes] : terms) {
    out.sample("crible:memory_plan_bytes", bytes, fmt::format("term=\"{}\"", term));
  }
  if (const auto usage = process_usage(0)) {
    out.gauge("crible:process_resident_bytes", usage->resident_bytes, "Resident memory of the server process.");
    out.counter("crible:process_cpu_seconds_total", usage->cpu_seconds, "Processor time of the server process.");
  }
}

// A family of one figure of every GPU that gives it; no family where none does.
void render_gpu_figure(Exposition& out, std::span<const GpuReading> gpus, std::string_view name, std::string_view type,
                       std::optional<int64_t> GpuReading::* figure, double unit, std::string_view help) {
  bool declared = false;
  for (const GpuReading& gpu : gpus) {
    if (!(gpu.*figure)) continue;
    if (!std::exchange(declared, true)) out.family(name, type, help);
    out.sample(name, static_cast<double>(*(gpu.*figure)) * unit, fmt::format("gpu=\"{}\"", gpu.gpu));
  }
}

void render_gpus(Exposition& out, std::span<const GpuReading> gpus) {
  using G = GpuReading;
  const auto gauge = [&](std::string_view name, std::optional<int64_t> G::* figure, double unit, std::string_view help) {
    render_gpu_figure(out, gpus, name, "gauge", figure, unit, help);
  };
  gauge("crible:gpu_memory_used_bytes", &G::memory_used_bytes, 1, "GPU memory in use, by all processes.");
  gauge("crible:gpu_memory_total_bytes", &G::memory_total_bytes, 1, "GPU memory.");
  gauge("crible:gpu_utilization", &G::utilization_percent, 0.01, "Share of the latest period with a kernel running.");
  gauge("crible:gpu_power_watts", &G::power_milliwatts, 1e-3, "Power drawn by the GPU.");
  render_gpu_figure(out, gpus, "crible:gpu_energy_joules_total", "counter", &G::energy_millijoules, 1e-3,
                    "Energy that the GPU has taken since its driver was loaded.");
  gauge("crible:gpu_temperature_celsius", &G::temperature_celsius, 1, "Temperature of the GPU.");
  gauge("crible:gpu_sm_clock_hertz", &G::sm_clock_mhz, 1e6, "Clock of the multiprocessors.");
  gauge("crible:gpu_memory_clock_hertz", &G::memory_clock_mhz, 1e6, "Clock of the memory.");
  bool declared = false;
  for (const G& gpu : gpus) {
    if (!gpu.throttle_reasons) continue;
    constexpr std::string_view kName = "crible:gpu_throttled";
    if (!std::exchange(declared, true)) out.family(kName, "gauge", "1 where the reason holds the clocks down now.");
    for (const auto& [bit, reason] : gpu_throttle_names()) {
      out.sample(kName, (*gpu.throttle_reasons & bit) != 0 ? 1 : 0,
                 fmt::format("gpu=\"{}\",reason=\"{}\"", gpu.gpu, reason));
    }
  }
}

void render_requests(Exposition& out, const ServerMetrics& metrics) {
  out.family("vllm:request_success_total", "counter", "Completions ended, by reason.");
  for (size_t i = 0; i < ServerMetrics::kReasons.size(); ++i) {
    out.sample("vllm:request_success_total", metrics.finished[i],
               fmt::format("finished_reason=\"{}\"", ServerMetrics::kReasons[i]));
  }
  out.histogram("vllm:time_to_first_token_seconds", metrics.time_to_first_token, "Arrival to first token.");
  out.histogram("vllm:inter_token_latency_seconds", metrics.inter_token_latency, "Between tokens of one completion.");
  out.histogram("vllm:request_time_per_output_token_seconds", metrics.request_time_per_output_token,
                "Mean time per output token after the first, by completion.");
  out.histogram("vllm:e2e_request_latency_seconds", metrics.e2e_request_latency, "Arrival to last token.");
  out.histogram("vllm:request_queue_time_seconds", metrics.request_queue_time, "Waiting for the first step.");
  out.histogram("vllm:request_prefill_time_seconds", metrics.request_prefill_time, "First step to first token.");
  out.histogram("vllm:request_decode_time_seconds", metrics.request_decode_time, "First to last token.");
  out.family("crible:http_responses_total", "counter", "HTTP responses, by class of status.");
  for (size_t i = 1; i < metrics.responses.size(); ++i) {
    out.sample("crible:http_responses_total", metrics.responses[i], fmt::format("status=\"{}xx\"", i));
  }
  out.counter("crible:queue_refusals_total", metrics.queue_refusals, "Requests refused with 429: too many waiting.");
  out.counter("crible:slow_readers_total", metrics.slow_readers,
              "Streams cancelled because their clients did not read them.");
  out.gauge("crible:open_connections", metrics.open_connections, "HTTP connections open.");
  out.gauge("crible:active_http_requests", metrics.active_requests, "HTTP requests under way, this one included.");
  out.gauge("crible:live_completions", metrics.live_jobs.load(std::memory_order_relaxed),
            "Completion requests that a client or the engine still holds.");
}

}  // namespace

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)] += 1;
  sum_ += value;
}

std::vector<int64_t> Histogram::cumulative() const {
  std::vector<int64_t> sums(counts_.size());
  std::partial_sum(counts_.begin(), counts_.end(), sums.begin());
  return sums;
}

ServerMetrics::ServerMetrics()
    : time_to_first_token(kFirstTokenBounds),
      inter_token_latency(kTokenBounds),
      request_time_per_output_token(kTokenBounds),
      e2e_request_latency(kRequestBounds),
      request_queue_time(kRequestBounds),
      request_prefill_time(kRequestBounds),
      request_decode_time(kRequestBounds) {}

void ServerMetrics::count_finished(std::string_view reason) {
  const auto found = std::find(kReasons.begin(), kReasons.end(), reason);
  CHECK(found != kReasons.end(), "{}", reason);
  finished[static_cast<size_t>(found - kReasons.begin())] += 1;
  completion_rate.note(now());
}

void ServerMetrics::count_response(int status) { responses[static_cast<size_t>(status / 100)] += 1; }

std::string render_metrics(const ServerMetrics& metrics, const EngineStats& stats,
                           const EngineDescription& description, std::string_view model_name,
                           std::span<const GpuReading> gpus) {
  Exposition out(model_name);
  render_engine(out, stats, description);
  render_requests(out, metrics);
  render_memory(out, description.plan);
  render_gpus(out, gpus);
  return out.take();
}

}  // namespace crible
