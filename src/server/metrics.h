// What the server counts, and its text for Prometheus (exposition format 0.0.4). Names are vLLM's
// where vLLM has the figure, so that dashboards and routers read both servers alike; what only this
// server has is named crible:. The engine's own figures come from its statistics.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/gpu_telemetry.h"
#include "engine/engine_service.h"
#include "server/completion_rate.h"

namespace crible {

// Cumulative histogram with fixed upper bounds, in seconds. One thread.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value);
  std::span<const double> bounds() const { return bounds_; }
  // Observations at or below bounds()[i]; the last is all of them.
  std::vector<int64_t> cumulative() const;
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;
  std::vector<int64_t> counts_;  // per bucket, the last above every bound
  double sum_ = 0;
};

// Touched on the I/O thread only, live_jobs apart.
struct ServerMetrics {
  ServerMetrics();
  void count_finished(std::string_view reason);  // "stop", "length", "abort", "error"
  void count_response(int status);

  Histogram time_to_first_token, inter_token_latency, request_time_per_output_token, e2e_request_latency,
      request_queue_time, request_prefill_time, request_decode_time;
  static constexpr std::array<std::string_view, 4> kReasons = {"stop", "length", "abort", "error"};
  std::array<int64_t, 4> finished{};         // by kReasons
  CompletionRate completion_rate;            // of all of them
  int64_t queue_refusals = 0;                // 429
  int64_t slow_readers = 0;                  // whose requests were cancelled for it
  std::array<int64_t, 6> responses{};        // by hundreds of the status
  int64_t open_connections = 0;
  int64_t active_requests = 0;               // HTTP requests under way
  std::atomic<int64_t> live_jobs = 0;        // completions not yet let go of by client and engine
};

// gpus: that the engine computes on; none on a CPU.
std::string render_metrics(const ServerMetrics& metrics, const EngineStats& stats,
                           const EngineDescription& description, std::string_view model_name,
                           std::span<const GpuReading> gpus);

}  // namespace crible
