#include "ops/attention/flash2_fixed_run.cuh"

namespace crible::cuda {

Status flash2_run_fixed_fp8_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream) {
  return flash2_run_fixed<64, __nv_fp8_e4m3>(call, plan, stream);
}

}  // namespace crible::cuda
