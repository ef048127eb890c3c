// Makes a GPU the current one of this thread for a scope: allocations, streams, events and launches go to it.
#pragma once

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

class DeviceScope {
 public:
  // device: one that was found to exist.
  explicit DeviceScope(int device) {
    CRIBLE_CUDA_CHECK(cudaGetDevice(&before_));
    if (device != before_) CRIBLE_CUDA_CHECK(cudaSetDevice(device));
    device_ = device;
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  ~DeviceScope() {
    if (device_ != before_) (void)cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  int device_ = 0;
};

}  // namespace crible::cuda
