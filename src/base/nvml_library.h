// NVIDIA's management library (NVML), loaded at run time: a table of the functions that GPU telemetry reads,
// declared here from the library's public interface, so that nothing of it is needed to build. A pointer that is
// null stands for a function that this driver's library lacks. Says nothing of what the figures mean
// (gpu_telemetry.h does). The functions may be called from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "base/result.h"

namespace crible::nvml {

// What the library's functions return: 0 is success.
using Return = int;
inline constexpr Return kSuccess = 0;
inline constexpr Return kInsufficientSize = 7;

using Device = struct OpaqueDevice*;

// A byte count that the library calls "not available".
inline constexpr unsigned long long kNotAvailable = ~0ULL;

struct Memory {
  unsigned long long total, free, used;
};

// As Memory, but what the driver reserves for itself is not in `used`.
struct MemoryWithReserve {
  unsigned version, reserved_for_alignment;
  unsigned long long total, reserved, free, used;
};
// The library's convention: size of the struct, and its version in the upper byte.
inline constexpr unsigned kMemoryWithReserveVersion = sizeof(MemoryWithReserve) | (2U << 24);

struct Utilization {
  unsigned gpu, memory;  // percent
};

struct ProcessInfo {
  unsigned pid;
  unsigned long long used_bytes;
  unsigned gpu_instance, compute_instance;
};

inline constexpr int kTemperatureOfGpu = 0;
inline constexpr int kClockOfMultiprocessors = 1;
inline constexpr int kClockOfMemory = 2;

class Library {
 public:
  // Loads and initialises it; a name without a folder is looked up as the dynamic linker does.
  static Result<std::unique_ptr<Library>> load(const std::filesystem::path& path);
  ~Library();
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  std::string error_text(Return code) const;

  // Always there.
  Return (*device_count)(unsigned*) = nullptr;
  Return (*device_by_index)(unsigned, Device*) = nullptr;
  // As the driver has them.
  Return (*device_name)(Device, char*, unsigned) = nullptr;
  Return (*device_uuid)(Device, char*, unsigned) = nullptr;
  Return (*memory)(Device, Memory*) = nullptr;
  Return (*memory_with_reserve)(Device, MemoryWithReserve*) = nullptr;
  Return (*utilization)(Device, Utilization*) = nullptr;
  Return (*power_milliwatts)(Device, unsigned*) = nullptr;
  Return (*energy_millijoules)(Device, unsigned long long*) = nullptr;  // since the driver was loaded
  Return (*temperature_celsius)(Device, int sensor, unsigned*) = nullptr;
  Return (*clock_mhz)(Device, int clock, unsigned*) = nullptr;
  Return (*throttle_reasons)(Device, unsigned long long*) = nullptr;
  Return (*compute_processes)(Device, unsigned* count, ProcessInfo*) = nullptr;

 private:
  explicit Library(void* handle) : handle_(handle) {}
  Status bind(const std::string& path);
  template <typename Function>
  bool find(Function& function, const char* name);

  void* handle_;
  Return (*shut_down_)() = nullptr;  // set once the library is initialised
  const char* (*error_string_)(Return) = nullptr;
};

}  // namespace crible::nvml
