#include <cmath>

#include "ops/exponential.h"
#include "ops/gelu_mul/gelu_mul.h"
#include "ops/gelu_mul/gelu_mul_kernels.h"
#include "ops/row_chunks.h"

namespace crible {

void gelu_mul_rows_scalar(const GeluMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < args.columns; ++c) {
      const float x = gate[c];
      const float y = x * std::fma(kGeluCubic, x * x, kGeluLinear);
      out[c] = x / (1.0f + exponential(-y)) * up[c];
    }
  }
}

void gelu_mul(Stream& stream, const GeluMulArgs& args) {
  auto* kernel = &gelu_mul_rows_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &gelu_mul_rows_avx2;
#endif
  // An exponential and a division weigh about four plain elements.
  for_row_chunks(stream, args.rows, args.columns * 4,
                 [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace crible
