#include "server/gpu_watch.h"

#include <unistd.h>

#include "base/log.h"

namespace crible {

GpuWatch GpuWatch::open(int64_t gpus, const std::filesystem::path& library) {
  GpuWatch watch;
  auto telemetry = GpuTelemetry::open(library);
  if (!telemetry) {
    log_warning("{}; /metrics will lack crible:gpu_*", telemetry.error().message);
    return watch;
  }
  watch.telemetry_ = std::move(*telemetry);
  watch.gpus_ = watch.telemetry_->of_process(::getpid(), gpus);
  return watch;
}

const std::vector<GpuReading>& GpuWatch::readings(TimePoint time) {
  if (read_at_ && time - *read_at_ < kFresh) return readings_;
  readings_.clear();
  for (const int gpu : gpus_) readings_.push_back(telemetry_->read(gpu));
  read_at_ = time;
  return readings_;
}

std::string GpuWatch::device_name() const {
  return gpus_.empty() ? "" : telemetry_->identity(gpus_.front()).name;
}

}  // namespace crible
