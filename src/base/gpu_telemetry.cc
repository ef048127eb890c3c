#include "base/gpu_telemetry.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

namespace crible {
namespace {

template <typename Value>
std::optional<int64_t> figure(nvml::Return (*get)(nvml::Device, Value*), nvml::Device device) {
  Value value{};
  if (get == nullptr || get(device, &value) != nvml::kSuccess) return std::nullopt;
  return static_cast<int64_t>(value);
}

// which: a sensor, or a clock.
std::optional<int64_t> figure(nvml::Return (*get)(nvml::Device, int, unsigned*), nvml::Device device, int which) {
  unsigned value = 0;
  if (get == nullptr || get(device, which, &value) != nvml::kSuccess) return std::nullopt;
  return value;
}

std::string text_of(nvml::Return (*get)(nvml::Device, char*, unsigned), nvml::Device device) {
  std::array<char, 96> text{};
  if (get == nullptr || get(device, text.data(), text.size()) != nvml::kSuccess) return {};
  return text.data();
}

void read_memory(const nvml::Library& library, nvml::Device device, GpuReading& reading) {
  nvml::MemoryWithReserve exact{};
  exact.version = nvml::kMemoryWithReserveVersion;
  if (library.memory_with_reserve != nullptr && library.memory_with_reserve(device, &exact) == nvml::kSuccess) {
    reading.memory_used_bytes = static_cast<int64_t>(exact.used);
    reading.memory_total_bytes = static_cast<int64_t>(exact.total);
    return;
  }
  nvml::Memory memory{};
  if (library.memory == nullptr || library.memory(device, &memory) != nvml::kSuccess) return;
  reading.memory_used_bytes = static_cast<int64_t>(memory.used);
  reading.memory_total_bytes = static_cast<int64_t>(memory.total);
}

std::optional<int> index_of(std::string_view word) {
  int index = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), index);
  if (error != std::errc() || end != word.data() + word.size() || index < 0) return std::nullopt;
  return index;
}

}  // namespace

const std::vector<std::pair<GpuThrottle, std::string_view>>& gpu_throttle_names() {
  static const std::vector<std::pair<GpuThrottle, std::string_view>> names = {
      {kGpuIdle, "idle"},
      {kGpuSetClocks, "set_clocks"},
      {kGpuPowerCap, "power_cap"},
      {kGpuHardwareSlowdown, "hardware_slowdown"},
      {kGpuSyncBoost, "sync_boost"},
      {kGpuThermalSoftware, "thermal_software"},
      {kGpuThermalHardware, "thermal_hardware"},
      {kGpuPowerBrake, "power_brake"},
      {kGpuDisplayClocks, "display_clocks"}};
  return names;
}

std::string gpu_throttle_text(uint64_t reasons) {
  std::string text;
  for (const auto& [bit, name] : gpu_throttle_names()) {
    if ((reasons & bit) == 0) continue;
    text += text.empty() ? "" : ", ";
    text += name;
  }
  return text;
}

Result<GpuTelemetry> GpuTelemetry::open(const std::filesystem::path& library) {
  CRIBLE_TRY(auto loaded, nvml::Library::load(library));
  GpuTelemetry telemetry(std::move(loaded));
  const nvml::Library& nvml = *telemetry.library_;
  unsigned count = 0;
  if (const nvml::Return code = nvml.device_count(&count); code != nvml::kSuccess) {
    return fail(ErrorCode::kUnavailable, "no GPU telemetry: NVML does not count the GPUs: {}", nvml.error_text(code));
  }
  if (count == 0) return fail(ErrorCode::kNotFound, "no GPU telemetry: NVML finds no GPU on this machine");
  for (unsigned i = 0; i < count; ++i) {
    Device device;
    if (const nvml::Return code = nvml.device_by_index(i, &device.handle); code != nvml::kSuccess) {
      return fail(ErrorCode::kUnavailable, "no GPU telemetry: GPU {} does not answer: {}", i, nvml.error_text(code));
    }
    device.identity = {text_of(nvml.device_name, device.handle), text_of(nvml.device_uuid, device.handle)};
    telemetry.devices_.push_back(std::move(device));
  }
  return telemetry;
}

GpuReading GpuTelemetry::read(int gpu) const {
  const nvml::Library& nvml = *library_;
  const nvml::Device device = devices_[static_cast<size_t>(gpu)].handle;
  GpuReading reading{.gpu = gpu};
  read_memory(nvml, device, reading);
  nvml::Utilization utilization{};
  if (nvml.utilization != nullptr && nvml.utilization(device, &utilization) == nvml::kSuccess) {
    reading.utilization_percent = utilization.gpu;
  }
  reading.power_milliwatts = figure(nvml.power_milliwatts, device);
  reading.energy_millijoules = figure(nvml.energy_millijoules, device);
  reading.temperature_celsius = figure(nvml.temperature_celsius, device, nvml::kTemperatureOfGpu);
  reading.sm_clock_mhz = figure(nvml.clock_mhz, device, nvml::kClockOfMultiprocessors);
  reading.memory_clock_mhz = figure(nvml.clock_mhz, device, nvml::kClockOfMemory);
  if (const auto reasons = figure(nvml.throttle_reasons, device)) {
    reading.throttle_reasons = static_cast<uint64_t>(*reasons);
  }
  return reading;
}

Result<std::vector<GpuProcess>> GpuTelemetry::processes(int gpu) const {
  const nvml::Library& nvml = *library_;
  if (nvml.compute_processes == nullptr) {
    return fail(ErrorCode::kUnsupported, "this driver does not list the processes on its GPUs");
  }
  std::vector<nvml::ProcessInfo> found(16);
  auto count = static_cast<unsigned>(found.size());
  nvml::Return code = nvml.compute_processes(devices_[static_cast<size_t>(gpu)].handle, &count, found.data());
  // More of them may start between the two calls.
  for (int attempt = 0; code == nvml::kInsufficientSize && attempt < 3; ++attempt) {
    found.resize(static_cast<size_t>(count) + 16);
    count = static_cast<unsigned>(found.size());
    code = nvml.compute_processes(devices_[static_cast<size_t>(gpu)].handle, &count, found.data());
  }
  if (code != nvml::kSuccess) {
    return fail(ErrorCode::kUnavailable, "the processes on GPU {} are not known: {}", gpu, nvml.error_text(code));
  }
  std::vector<GpuProcess> processes;
  for (size_t i = 0; i < std::min<size_t>(count, found.size()); ++i) {
    GpuProcess process{static_cast<pid_t>(found[i].pid), std::nullopt};
    if (found[i].used_bytes != nvml::kNotAvailable) process.used_bytes = static_cast<int64_t>(found[i].used_bytes);
    processes.push_back(process);
  }
  return processes;
}

std::vector<int> GpuTelemetry::used_by(pid_t pid) const {
  std::vector<int> used;
  for (int gpu = 0; gpu < count(); ++gpu) {
    const auto running = processes(gpu);
    if (running && std::ranges::find(*running, pid, &GpuProcess::pid) != running->end()) used.push_back(gpu);
  }
  return used;
}

std::vector<int> GpuTelemetry::visible(const char* cuda_visible_devices) const {
  std::vector<int> gpus;
  if (cuda_visible_devices == nullptr) {
    for (int gpu = 0; gpu < count(); ++gpu) gpus.push_back(gpu);
    return gpus;
  }
  std::string_view rest = cuda_visible_devices;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    std::string_view word = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    std::optional<int> gpu = index_of(word);
    for (int i = 0; !gpu && i < count() && word.starts_with("GPU-"); ++i) {
      if (identity(i).uuid.starts_with(word)) gpu = i;
    }
    if (!gpu || *gpu >= count()) break;
    if (std::ranges::find(gpus, *gpu) == gpus.end()) gpus.push_back(*gpu);
  }
  return gpus;
}

std::vector<int> GpuTelemetry::of_process(pid_t pid, int64_t uses) const {
  std::vector<int> gpus = used_by(pid);
  if (!gpus.empty()) return gpus;
  gpus = visible(std::getenv("CUDA_VISIBLE_DEVICES"));
  if (std::ssize(gpus) > uses) gpus.resize(static_cast<size_t>(uses));
  return gpus;
}

}  // namespace crible
