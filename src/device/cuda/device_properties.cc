#include "device/cuda/device_properties.h"

#include <cuda_runtime_api.h>

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Result<DeviceProperties> device_properties() {
  CRIBLE_RETURN_IF_ERROR(device_available());
  int device = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  cudaDeviceProp properties{};
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, device));
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  return DeviceProperties{.name = properties.name,
                          .multiprocessors = properties.multiProcessorCount,
                          .total_bytes = static_cast<int64_t>(total_bytes),
                          .free_bytes = static_cast<int64_t>(free_bytes),
                          .l2_bytes = properties.l2CacheSize,
                          .shared_bytes_per_block = static_cast<int64_t>(properties.sharedMemPerBlockOptin)};
}

}  // namespace crible::cuda
