// The GPUs that this server computes on, read when somebody asks. A reading serves for a short while, so that
// many scrapers cost no more than one. Empty where the engine runs on a CPU, or where the driver does not answer.
// Used by one thread at a time.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/gpu_telemetry.h"

namespace crible {

class GpuWatch {
 public:
  static constexpr std::chrono::milliseconds kFresh{100};

  GpuWatch() = default;
  // Of this process, which computes on `gpus` of them. A missing library or driver is logged, and leaves nothing
  // to watch.
  static GpuWatch open(int64_t gpus, const std::filesystem::path& library = kNvmlLibrary);

  // By GPU. As of `time`, or at most kFresh before.
  const std::vector<GpuReading>& readings(TimePoint time = now());
  // Of the first GPU; empty where there is none.
  std::string device_name() const;

 private:
  std::optional<GpuTelemetry> telemetry_;
  std::vector<int> gpus_;
  std::vector<GpuReading> readings_;
  std::optional<TimePoint> read_at_;
};

}  // namespace crible
