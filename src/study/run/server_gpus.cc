#include "study/run/server_gpus.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "study/record/gpu_use.h"

namespace crible::study {
namespace {

// A fiftieth of the time at a fraction of the clocks moves a median by less than what studies call equal.
constexpr double kThrottledShareAllowed = 0.02;
// A kernel now and then, of a desktop or of monitoring, takes less.
constexpr int64_t kIdlePercent = 5;
// Contexts without data of their own (monitoring, display) stay below it.
constexpr int64_t kIdleProcessBytes = 64 * kMiB;
// Of a GPU whose processes the driver does not show: what it holds when nothing runs is below a twentieth.
constexpr double kIdleMemoryShare = 0.05;

// What the server says it spreads its model over.
int64_t gpus_in_use(const ServerState& state) {
  const auto effective = nlohmann::json::parse(state.effective_json, nullptr, false);
  constexpr const char* kKnob = "tensor-parallel-size";
  if (!effective.is_object() || !effective.contains(kKnob) || !effective[kKnob].is_number_integer()) return 1;
  return effective[kKnob].get<int64_t>();
}

bool is_this_machine(const load::Endpoint& endpoint) {
  return endpoint.host == "localhost" || endpoint.host == "::1" || endpoint.host.starts_with("127.");
}

std::vector<int> visible_here(const GpuTelemetry& telemetry) {
  return telemetry.visible(std::getenv("CUDA_VISIBLE_DEVICES"));
}

int64_t known(const std::optional<int64_t>& value) { return value.value_or(kUnset); }

}  // namespace

std::string device_setting(const ServerState& state) {
  const auto effective = nlohmann::json::parse(state.effective_json, nullptr, false);
  if (!effective.is_object() || !effective.contains("device") || !effective["device"].is_string()) return {};
  return effective["device"].get<std::string>();
}

std::vector<int> gpus_of_server(const GpuTelemetry& telemetry, const load::Endpoint& endpoint,
                                std::optional<pid_t> pid, const ServerState& state) {
  const std::string device = device_setting(state);
  if (device == "cpu") return {};
  if (pid) return device == "cuda" ? telemetry.of_process(*pid, gpus_in_use(state)) : telemetry.used_by(*pid);
  if (!is_this_machine(endpoint)) return {};
  std::vector<int> occupied;
  for (const int gpu : visible_here(telemetry)) {
    const auto processes = telemetry.processes(gpu);
    if (processes && !processes->empty()) occupied.push_back(gpu);
  }
  return occupied;
}

GpuSample to_sample(const GpuReading& reading, int64_t at_ns) {
  return {.at_ns = at_ns,
          .gpu = reading.gpu,
          .memory_used_bytes = known(reading.memory_used_bytes),
          .memory_total_bytes = known(reading.memory_total_bytes),
          .utilization_percent = known(reading.utilization_percent),
          .power_mw = known(reading.power_milliwatts),
          .energy_mj = known(reading.energy_millijoules),
          .temperature_c = known(reading.temperature_celsius),
          .sm_clock_mhz = known(reading.sm_clock_mhz),
          .memory_clock_mhz = known(reading.memory_clock_mhz),
          .throttle_reasons =
              reading.throttle_reasons ? static_cast<int64_t>(*reading.throttle_reasons) : kUnset};
}

void judge_gpus(TrialRecord& trial) {
  const std::optional<double> share = throttled_share(trial, kGpuDisturbances);
  if (!share || *share == 0) return;
  uint64_t reasons = 0;
  for (const GpuSample& sample : trial.gpu) {
    if (sample.throttle_reasons != kUnset) reasons |= static_cast<uint64_t>(sample.throttle_reasons);
  }
  const bool spoils = *share > kThrottledShareAllowed;
  if (spoils) trial.validity.valid = false;
  trial.validity.reasons.push_back(
      fmt::format("gpu_throttled: in {:.1f}% of {} samples the GPU was slowed down ({}); {:.0f}% allowed", 100 * *share,
                  trial.gpu.size(), gpu_throttle_text(reasons & kGpuDisturbances), 100 * kThrottledShareAllowed));
}

std::vector<std::string> busy_gpus(const GpuTelemetry& telemetry) {
  std::vector<std::string> findings;
  for (const int gpu : visible_here(telemetry)) {
    std::vector<std::string> signs;
    const auto processes = telemetry.processes(gpu);
    if (processes) {
      for (const GpuProcess& process : *processes) {
        // What a process holds without saying how much may be anything.
        if (process.used_bytes && *process.used_bytes < kIdleProcessBytes) continue;
        signs.push_back(fmt::format("process {} holds {}", process.pid,
                                    process.used_bytes ? format_bytes(*process.used_bytes) : "memory"));
      }
    }
    const GpuReading reading = telemetry.read(gpu);
    if (signs.empty() && reading.memory_used_bytes && reading.memory_total_bytes &&
        static_cast<double>(*reading.memory_used_bytes) >
            kIdleMemoryShare * static_cast<double>(*reading.memory_total_bytes)) {
      signs.push_back(fmt::format("{} of {} are in use", format_bytes(*reading.memory_used_bytes),
                                  format_bytes(*reading.memory_total_bytes)));
    }
    if (reading.utilization_percent && *reading.utilization_percent >= kIdlePercent) {
      signs.push_back(fmt::format("it is {}% busy", *reading.utilization_percent));
    }
    if (signs.empty()) continue;
    findings.push_back(fmt::format("GPU {} ({}) is not idle: {}", gpu, telemetry.identity(gpu).name,
                                   fmt::join(signs, ", ")));
  }
  return findings;
}

}  // namespace crible::study
