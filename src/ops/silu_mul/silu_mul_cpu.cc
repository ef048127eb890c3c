#include "ops/exponential.h"
#include "ops/silu_mul/silu_mul.h"
#include "ops/silu_mul/silu_mul_kernels.h"

namespace crible {

void silu_mul_rows_scalar(const GatedProduct& args, int64_t begin, int64_t end) {
  gated_rows(args, begin, end, [](float x) { return x / (1.0f + exponential(-x)); });
}

void silu_mul(Stream& stream, const GatedProduct& args) {
  GatedRowsKernel kernel = &silu_mul_rows_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &silu_mul_rows_avx2;
#endif
  run_gated_product(stream, args, kernel);
}

}  // namespace crible
