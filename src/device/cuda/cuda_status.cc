#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Status status_of(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  const ErrorCode code =
      error == cudaErrorMemoryAllocation ? ErrorCode::kResourceExhausted : ErrorCode::kInternal;
  return fail(code, "CUDA: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

bool has_sticky_error() {
  // An error of one call is cleared by the first cudaGetLastError; a sticky one comes back.
  (void)cudaGetLastError();
  return cudaFree(nullptr) != cudaSuccess;
}

Status device_available() {
  constexpr int kHopper = 9;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    (void)cudaGetLastError();
    return fail(ErrorCode::kUnavailable, "no GPU: {}",
                error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  }
  int major = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major != kHopper) {
    return fail(ErrorCode::kUnsupported, "GPU 0 has compute capability {}.x; this build is for Hopper (9.0)",
                major);
  }
  return {};
}

}  // namespace crible::cuda
