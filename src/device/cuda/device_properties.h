// What the current GPU is and has, read once.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace crible::cuda {

struct DeviceProperties {
  std::string name;
  int multiprocessors = 0;
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // at the time of reading
  int64_t l2_bytes = 0;
  int64_t shared_bytes_per_block = 0;  // with the opt-in limit
};

Result<DeviceProperties> device_properties();

}  // namespace crible::cuda
