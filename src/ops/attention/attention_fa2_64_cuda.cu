#include "ops/attention/flash2_run.cuh"

namespace crible::cuda {

Status flash2_run_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream) {
  return flash2_run<64, __nv_bfloat16>(call, plan, stream);
}

}  // namespace crible::cuda
