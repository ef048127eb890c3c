#include <cmath>

#include "ops/exponential.h"
#include "ops/gelu_mul/gelu_mul.h"
#include "ops/gelu_mul/gelu_mul_kernels.h"

namespace crible {

void gelu_mul_rows_scalar(const GatedProduct& args, int64_t begin, int64_t end) {
  gated_rows(args, begin, end, [](float x) {
    const float y = x * std::fma(kGeluCubic, x * x, kGeluLinear);
    return x / (1.0f + exponential(-y));
  });
}

void gelu_mul(Stream& stream, const GatedProduct& args) {
  GatedRowsKernel kernel = &gelu_mul_rows_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &gelu_mul_rows_avx2;
#endif
  run_gated_product(stream, args, kernel);
}

}  // namespace crible
