#include "ops/attention/flash3_run.cuh"

namespace crible::cuda {

Status flash3_run_128(const RunCall& call, const Flash3Plan& plan, cudaStream_t stream) {
  return flash3_run<128>(call, plan, stream);
}

}  // namespace crible::cuda
