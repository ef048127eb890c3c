#include "study/record/gpu_use.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/gpu_telemetry.h"

namespace crible::study {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;
constexpr double kMillis = 1e3;

struct Energy {
  double joules = 0;
  double seconds = 0;
};

// Samples of one GPU, in order of time. Nothing if no time lies between readings.
std::optional<Energy> energy_of(const std::vector<const GpuSample*>& samples) {
  const auto energy_known = [](const GpuSample* sample) { return sample->energy_mj != kUnset; };
  const auto first = std::ranges::find_if(samples, energy_known);
  const auto last = std::find_if(samples.rbegin(), samples.rend(), energy_known);
  if (first != samples.end()) {
    const int64_t span_ns = (*last)->at_ns - (*first)->at_ns;
    const int64_t spent_mj = (*last)->energy_mj - (*first)->energy_mj;
    // A counter that went backwards belongs to a driver loaded anew.
    if (span_ns > 0 && spent_mj >= 0) {
      return Energy{static_cast<double>(spent_mj) / kMillis, static_cast<double>(span_ns) / kNanosecondsPerSecond};
    }
  }
  Energy area;
  const GpuSample* before = nullptr;
  for (const GpuSample* sample : samples) {
    if (sample->power_mw == kUnset) continue;
    if (before != nullptr) {
      const double seconds = static_cast<double>(sample->at_ns - before->at_ns) / kNanosecondsPerSecond;
      area.joules += static_cast<double>(before->power_mw + sample->power_mw) / 2 / kMillis * seconds;
      area.seconds += seconds;
    }
    before = sample;
  }
  return area.seconds > 0 ? std::optional(area) : std::nullopt;
}

void add_energy(const std::map<int, std::vector<const GpuSample*>>& by_gpu, GpuUse& use) {
  Energy total;
  for (const auto& [gpu, samples] : by_gpu) {
    const std::optional<Energy> energy = energy_of(samples);
    if (!energy) return;  // the sum would lack this one
    total.joules += energy->joules;
    total.seconds = std::max(total.seconds, energy->seconds);
  }
  if (total.seconds == 0) return;
  use.energy_j = total.joules;
  use.mean_power_w = total.joules / total.seconds;
}

// Largest sum over the GPUs of what was read at one moment.
template <typename Value>
std::optional<int64_t> peak(const std::vector<GpuSample>& samples, Value GpuSample::* value) {
  std::map<int64_t, int64_t> by_moment;
  for (const GpuSample& sample : samples) {
    if (sample.*value != kUnset) by_moment[sample.at_ns] += sample.*value;
  }
  std::optional<int64_t> most;
  for (const auto& [at_ns, sum] : by_moment) most = std::max(most.value_or(sum), sum);
  return most;
}

}  // namespace

std::optional<double> throttled_share(const TrialRecord& trial, uint64_t reasons) {
  int64_t read = 0, held = 0;
  for (const GpuSample& sample : trial.gpu) {
    if (sample.throttle_reasons == kUnset) continue;
    ++read;
    held += (static_cast<uint64_t>(sample.throttle_reasons) & reasons) != 0;
  }
  if (read == 0) return std::nullopt;
  return static_cast<double>(held) / static_cast<double>(read);
}

GpuUse gpu_use(const TrialRecord& trial) {
  std::map<int, std::vector<const GpuSample*>> by_gpu;
  for (const GpuSample& sample : trial.gpu) by_gpu[sample.gpu].push_back(&sample);
  for (auto& [gpu, samples] : by_gpu) std::ranges::stable_sort(samples, {}, &GpuSample::at_ns);
  GpuUse use;
  add_energy(by_gpu, use);
  if (const auto most = peak(trial.gpu, &GpuSample::power_mw)) {
    use.peak_power_w = static_cast<double>(*most) / kMillis;
  }
  use.peak_memory_bytes = peak(trial.gpu, &GpuSample::memory_used_bytes);
  use.throttled_share = throttled_share(trial, kGpuHeldDown);
  return use;
}

}  // namespace crible::study
