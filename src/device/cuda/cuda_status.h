// CUDA's error codes as Status. Allocation and set-up failures come from the outside world and are
// returned; a sticky error (an illegal access, a failed launch) leaves the context unusable, and every
// later call returns it: has_sticky_error() tells the owner to end its work and answer with an error.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "base/check.h"
#include "base/result.h"

namespace crible::cuda {

// `what` names the call and its purpose: "allocate 12 MiB of weights".
Status status_of(cudaError_t error, std::string_view what);

// Whether the current device's context has failed for good.
bool has_sticky_error();

// Whether a Hopper GPU can be used by this process; the reason if not.
Status device_available();

}  // namespace crible::cuda

#define CRIBLE_CUDA_RETURN_IF_ERROR(expression) \
  CRIBLE_RETURN_IF_ERROR(::crible::cuda::status_of((expression), #expression))

// For calls that only a broken invariant or a sticky error can fail.
#define CRIBLE_CUDA_CHECK(expression)                                         \
  do {                                                                        \
    const cudaError_t cuda_error_ = (expression);                             \
    CHECK(cuda_error_ == cudaSuccess, "{}", cudaGetErrorString(cuda_error_)); \
  } while (false)
