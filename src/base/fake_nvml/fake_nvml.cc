// A management library without a GPU, for the tests: speaks NVML's binary interface and says what the environment
// variable CRIBLE_FAKE_NVML tells it to, at every call anew. The variable holds words of the form "key=value",
// of figures of a GPU "GPU.key=value": count, init, and for GPU 0 e.g. 0.power_mw=350000. A figure without a word
// is "not supported"; a value "!N" makes its function return the error N. Processes are a list of pid:bytes
// with commas. Compiled with FAKE_NVML_OLD it has the functions of an old driver only.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/nvml_library.h"

namespace {

using crible::nvml::Device;
using crible::nvml::Return;

constexpr Return kInvalidArgument = 2;
constexpr Return kNotSupported = 3;

std::optional<std::string> word(const std::string& key) {
  const char* script = std::getenv("CRIBLE_FAKE_NVML");
  const std::string all = " " + std::string(script == nullptr ? "" : script) + " ";
  const size_t at = all.find(" " + key + "=");
  if (at == std::string::npos) return std::nullopt;
  const size_t begin = at + key.size() + 2;
  return all.substr(begin, all.find(' ', begin) - begin);
}

// A device's handle is its index and one: none is null.
std::optional<std::string> word_of(Device device, const char* key) {
  return word(std::to_string(reinterpret_cast<uintptr_t>(device) - 1) + "." + key);
}

template <typename Number>
Return answer(const std::optional<std::string>& text, Number* value) {
  if (!text) return kNotSupported;
  if (text->starts_with('!')) return std::atoi(text->c_str() + 1);
  *value = static_cast<Number>(std::strtoull(text->c_str(), nullptr, 0));
  return crible::nvml::kSuccess;
}

Return answer_text(const std::optional<std::string>& text, char* to, unsigned size) {
  if (!text) return kNotSupported;
  if (text->size() >= size) return crible::nvml::kInsufficientSize;
  std::memcpy(to, text->c_str(), text->size() + 1);
  return crible::nvml::kSuccess;
}

}  // namespace

extern "C" {

Return nvmlInit_v2() {
  int code = 0;
  const Return failed = answer(word("init"), &code);
  return failed == kNotSupported ? crible::nvml::kSuccess : failed;
}
Return nvmlShutdown() { return crible::nvml::kSuccess; }
const char* nvmlErrorString(Return code) { return code == kNotSupported ? "Not Supported" : "Scripted error"; }
Return nvmlDeviceGetCount_v2(unsigned* count) { return answer(word("count"), count); }
Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Device* device) {
  unsigned count = 0;
  if (nvmlDeviceGetCount_v2(&count) != 0 || index >= count) return kInvalidArgument;
  *device = reinterpret_cast<Device>(static_cast<uintptr_t>(index) + 1);
  int code = 0;
  const Return failed = answer(word_of(*device, "handle"), &code);
  return failed == kNotSupported ? crible::nvml::kSuccess : failed;
}
Return nvmlDeviceGetName(Device device, char* to, unsigned size) { return answer_text(word_of(device, "name"), to, size); }
Return nvmlDeviceGetUUID(Device device, char* to, unsigned size) { return answer_text(word_of(device, "uuid"), to, size); }
Return nvmlDeviceGetMemoryInfo(Device device, crible::nvml::Memory* memory) {
  const Return code = answer(word_of(device, "memory_used_with_reserve"), &memory->used);
  return code != 0 ? code : answer(word_of(device, "memory_total"), &memory->total);
}
Return nvmlDeviceGetPowerUsage(Device device, unsigned* value) { return answer(word_of(device, "power_mw"), value); }
Return nvmlDeviceGetTemperature(Device device, int sensor, unsigned* value) {
  return sensor == 0 ? answer(word_of(device, "temperature"), value) : kInvalidArgument;
}
Return nvmlDeviceGetClockInfo(Device device, int clock, unsigned* value) {
  if (clock != 1 && clock != 2) return kInvalidArgument;
  return answer(word_of(device, clock == 1 ? "sm_clock" : "memory_clock"), value);
}
Return nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long* value) {
  return answer(word_of(device, "throttle"), value);
}

#ifndef FAKE_NVML_OLD

Return nvmlDeviceGetMemoryInfo_v2(Device device, crible::nvml::MemoryWithReserve* memory) {
  // 40 bytes, as the library's header lays them out: the version, padding, four counts.
  if (memory->version != (40U | (2U << 24))) return kInvalidArgument;
  const Return code = answer(word_of(device, "memory_used"), &memory->used);
  return code != 0 ? code : answer(word_of(device, "memory_total"), &memory->total);
}
Return nvmlDeviceGetUtilizationRates(Device device, crible::nvml::Utilization* rates) {
  return answer(word_of(device, "utilization"), &rates->gpu);
}
Return nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long* value) {
  return answer(word_of(device, "energy_mj"), value);
}
Return nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long* value) {
  return answer(word_of(device, "throttle"), value);
}
Return nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned* count, crible::nvml::ProcessInfo* processes) {
  const std::optional<std::string> text = word_of(device, "processes");
  if (!text) return kNotSupported;
  if (text->starts_with('!')) return std::atoi(text->c_str() + 1);
  std::vector<crible::nvml::ProcessInfo> all;
  for (const char* at = text->c_str(); *at != '\0';) {
    char* end = nullptr;
    crible::nvml::ProcessInfo process{};
    process.pid = static_cast<unsigned>(std::strtoul(at, &end, 10));
    process.used_bytes = crible::nvml::kNotAvailable;
    if (*end == ':') process.used_bytes = std::strtoull(end + 1, &end, 10);
    all.push_back(process);
    at = *end == ',' ? end + 1 : end;
  }
  const bool fits = all.size() <= *count;
  *count = static_cast<unsigned>(all.size());
  if (!fits) return crible::nvml::kInsufficientSize;
  std::copy(all.begin(), all.end(), processes);
  return crible::nvml::kSuccess;
}

#endif
}
