// Launches a kernel with programmatic dependent launch: its blocks may start while the kernel before it
// on the stream still runs, and must call cudaGridDependencySynchronize() before they touch anything that
// it writes. Optionally in clusters of blocks. Included by .cu files.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;    // blocks of x per cluster
  bool dependent = false;  // programmatic dependent launch
};

template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
            Arguments&&... arguments) {
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.dependent) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {shape.cluster, 1, 1};
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  // A device that has failed for good is reported where the work is waited for, which can answer with an error.
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  CHECK(error == cudaSuccess || has_sticky_error(), "{}", cudaGetErrorString(error));
}

// Raises the kernel's limit of shared memory. Needed once per kernel above 48 KB.
template <typename... Parameters>
void allow_shared_bytes(void (*kernel)(Parameters...), size_t bytes) {
  CRIBLE_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(bytes)));
}

}  // namespace crible::cuda
