#include "study/run/monitor.h"

#include "base/process.h"
#include "study/run/prometheus_text.h"
#include "study/run/server_gpus.h"

namespace crible::study {
namespace {

constexpr std::chrono::milliseconds kInterval{200};
constexpr std::chrono::milliseconds kReadTimeout{2'000};
// What this engine holds on its device by its plan, which it keeps to; other servers do not say.
constexpr const char* kMemoryPlan = "crible:memory_plan_bytes";

std::optional<int64_t> device_bytes(const std::vector<MetricLine>& lines) {
  for (const MetricLine& line : lines) {
    if (line.name != kMemoryPlan) continue;
    const auto term = line.labels.find("term");
    if (term != line.labels.end() && term->second == "planned") return static_cast<int64_t>(line.value);
  }
  return std::nullopt;
}

}  // namespace

Monitor::Monitor(const load::Endpoint& endpoint, std::optional<pid_t> pid, const ServerState& state,
                 const GpuTelemetry* telemetry)
    : caller_(endpoint),
      pid_(pid),
      device_total_bytes_(state.device_memory_bytes),
      device_used_bytes_(state.device_used_bytes),
      before_(read_counters()),
      telemetry_(telemetry) {
  if (telemetry_ != nullptr) gpus_ = gpus_of_server(*telemetry_, endpoint, pid_, state);
}

void Monitor::start(TimePoint trial_start) {
  trial_start_ = trial_start;
  sample_gpus();  // before the first request, so that the energy counters span the whole trial
  thread_ = std::thread([this] { watch(); });
}

Monitor::~Monitor() {
  stop();
}

void Monitor::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Monitor::watch() {
  sample();
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    lock.unlock();
    sample();
    lock.lock();
  }
}

void Monitor::sample() {
  MemorySample sample;
  sample.at_ns = std::chrono::duration_cast<Nanoseconds>(now() - trial_start_).count();
  sample.device_total_bytes = device_total_bytes_;
  sample.device_used_bytes = device_used_bytes_;
  if (const auto reply = caller_.get("/metrics", kReadTimeout); reply && reply->code == 200) {
    if (const auto used = device_bytes(parse_prometheus(reply->body))) sample.device_used_bytes = *used;
  }
  if (pid_) {
    if (const auto usage = process_usage(*pid_)) sample.server_resident_bytes = usage->resident_bytes;
  }
  samples_.push_back(sample);
  sample_gpus();
}

void Monitor::sample_gpus() {
  if (gpus_.empty()) return;
  const int64_t at_ns = std::chrono::duration_cast<Nanoseconds>(now() - trial_start_).count();
  for (const int gpu : gpus_) gpu_samples_.push_back(to_sample(telemetry_->read(gpu), at_ns));
}

std::map<std::string, double> Monitor::read_counters() {
  const auto reply = caller_.get("/metrics", kReadTimeout);
  if (!reply || reply->code != 200) return {};
  return counters(parse_prometheus(reply->body));
}

void Monitor::finish(TrialRecord& trial) {
  stop();
  sample();
  trial.memory = std::move(samples_);
  trial.gpu = std::move(gpu_samples_);
  trial.counters_before = std::move(before_);
  trial.counters_after = read_counters();
}

}  // namespace crible::study
