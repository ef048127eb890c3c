#include "base/nvml_library.h"

#include <dlfcn.h>

namespace crible::nvml {

template <typename Function>
bool Library::find(Function& function, const char* name) {
  function = reinterpret_cast<Function>(::dlsym(handle_, name));
  return function != nullptr;
}

Result<std::unique_ptr<Library>> Library::load(const std::filesystem::path& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = ::dlerror();
    return fail(ErrorCode::kNotFound, "no GPU telemetry: {}; NVIDIA's driver brings this library",
                reason == nullptr ? path.string() : reason);
  }
  std::unique_ptr<Library> library(new Library(handle));
  CRIBLE_RETURN_IF_ERROR(library->bind(path.string()));
  return library;
}

Status Library::bind(const std::string& path) {
  Return (*initialise)() = nullptr;
  Return (*shut_down)() = nullptr;
  const bool complete = find(initialise, "nvmlInit_v2") && find(shut_down, "nvmlShutdown") &&
                        find(device_count, "nvmlDeviceGetCount_v2") &&
                        find(device_by_index, "nvmlDeviceGetHandleByIndex_v2");
  if (!complete) {
    return fail(ErrorCode::kUnsupported,
                "no GPU telemetry: {} lacks the functions of NVML; is it NVIDIA's management library?", path);
  }
  find(error_string_, "nvmlErrorString");
  if (const Return code = initialise(); code != kSuccess) {
    return fail(ErrorCode::kUnavailable, "no GPU telemetry: NVML does not start: {}; nvidia-smi should say the same",
                error_text(code));
  }
  shut_down_ = shut_down;
  find(device_name, "nvmlDeviceGetName");
  find(device_uuid, "nvmlDeviceGetUUID");
  find(memory, "nvmlDeviceGetMemoryInfo");
  find(memory_with_reserve, "nvmlDeviceGetMemoryInfo_v2");
  find(utilization, "nvmlDeviceGetUtilizationRates");
  find(power_milliwatts, "nvmlDeviceGetPowerUsage");
  find(energy_millijoules, "nvmlDeviceGetTotalEnergyConsumption");
  find(temperature_celsius, "nvmlDeviceGetTemperature");
  find(clock_mhz, "nvmlDeviceGetClockInfo");
  // Renamed by newer drivers; the bits are the same.
  if (!find(throttle_reasons, "nvmlDeviceGetCurrentClocksEventReasons")) {
    find(throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
  }
  // Both fill the same struct; the unnumbered first version does not.
  if (!find(compute_processes, "nvmlDeviceGetComputeRunningProcesses_v3")) {
    find(compute_processes, "nvmlDeviceGetComputeRunningProcesses_v2");
  }
  return {};
}

Library::~Library() {
  if (shut_down_ != nullptr) shut_down_();
  ::dlclose(handle_);
}

std::string Library::error_text(Return code) const {
  const char* text = error_string_ == nullptr ? nullptr : error_string_(code);
  return text == nullptr ? fmt::format("error {}", code) : fmt::format("{} (error {})", text, code);
}

}  // namespace crible::nvml
