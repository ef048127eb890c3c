// The state of this machine's NVIDIA GPUs, read through NVML. Opening fails with a reason where there is no driver
// or no GPU; a figure that a GPU or its driver does not give is absent, and never ends a reading. A reading is a
// dozen calls into the driver, without allocation. Safe on any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/nvml_library.h"
#include "base/result.h"

namespace crible {

inline constexpr const char* kNvmlLibrary = "libnvidia-ml.so.1";

// Why the clocks are not at their highest: NVML's bits.
enum GpuThrottle : uint64_t {
  kGpuIdle = 0x1,
  kGpuSetClocks = 0x2,          // an operator fixed them
  kGpuPowerCap = 0x4,           // the power limit: ordinary under full load
  kGpuHardwareSlowdown = 0x8,   // stands beside one of the three below, or for a drop in supply
  kGpuSyncBoost = 0x10,
  kGpuThermalSoftware = 0x20,   // too hot, by the driver's judgement
  kGpuThermalHardware = 0x40,   // too hot, by the chip's own
  kGpuPowerBrake = 0x80,        // told to brake from outside, by the power supply
  kGpuDisplayClocks = 0x100,
};
// What disturbs a measurement: the machine's cooling or supply, not the work.
inline constexpr uint64_t kGpuDisturbances =
    kGpuHardwareSlowdown | kGpuThermalSoftware | kGpuThermalHardware | kGpuPowerBrake;
// What holds a working GPU below the clocks it could run at.
inline constexpr uint64_t kGpuHeldDown = kGpuDisturbances | kGpuPowerCap;

// Every bit that has a name, with it ("power_cap"), as metrics and messages spell it.
const std::vector<std::pair<GpuThrottle, std::string_view>>& gpu_throttle_names();
// The names of the bits set, with commas.
std::string gpu_throttle_text(uint64_t reasons);

struct GpuReading {
  int gpu = 0;  // NVML's index
  std::optional<int64_t> memory_used_bytes;  // by all processes, without the driver's reserve where it tells
  std::optional<int64_t> memory_total_bytes;
  std::optional<int64_t> utilization_percent;  // of the last sampling period, with a kernel running
  std::optional<int64_t> power_milliwatts;     // averaged over a second by recent GPUs
  std::optional<int64_t> energy_millijoules;   // a counter since the driver was loaded
  std::optional<int64_t> temperature_celsius;
  std::optional<int64_t> sm_clock_mhz;
  std::optional<int64_t> memory_clock_mhz;
  std::optional<uint64_t> throttle_reasons;  // bits of GpuThrottle

  bool operator==(const GpuReading&) const = default;
};

struct GpuIdentity {
  std::string name;  // "NVIDIA H100 80GB HBM3"; empty where the driver does not say
  std::string uuid;  // "GPU-..."
};

struct GpuProcess {
  pid_t pid = 0;                      // as the driver numbers processes: not this one's view in a container
  std::optional<int64_t> used_bytes;
};

class GpuTelemetry {
 public:
  static Result<GpuTelemetry> open(const std::filesystem::path& library = kNvmlLibrary);

  int count() const { return static_cast<int>(devices_.size()); }
  const GpuIdentity& identity(int gpu) const { return devices_[static_cast<size_t>(gpu)].identity; }
  GpuReading read(int gpu) const;
  // Processes with a compute context on it. Fails where the driver does not tell.
  Result<std::vector<GpuProcess>> processes(int gpu) const;
  // GPUs on which the process has a compute context; none also where the driver does not tell.
  std::vector<int> used_by(pid_t pid) const;
  // What a value of CUDA_VISIBLE_DEVICES (nullptr: unset) leaves, in its order: indices or starts of UUIDs; as
  // in CUDA, the first word that names no GPU ends the list. CUDA numbers equal GPUs as NVML does.
  std::vector<int> visible(const char* cuda_visible_devices) const;
  // The GPUs that a process of this environment computes on: by its number where the driver shows it, else the
  // first ones visible, which is where a CUDA program begins; as many as it is known to use.
  std::vector<int> of_process(pid_t pid, int64_t uses = 1) const;

 private:
  struct Device {
    nvml::Device handle = nullptr;
    GpuIdentity identity;
  };
  explicit GpuTelemetry(std::unique_ptr<nvml::Library> library) : library_(std::move(library)) {}

  std::unique_ptr<nvml::Library> library_;
  std::vector<Device> devices_;
};

}  // namespace crible
