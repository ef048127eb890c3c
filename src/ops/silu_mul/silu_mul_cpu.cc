#include "ops/exponential.h"
#include "ops/row_chunks.h"
#include "ops/silu_mul/silu_mul.h"
#include "ops/silu_mul/silu_mul_kernels.h"

namespace crible {

void silu_mul_rows_scalar(const SiluMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < args.columns; ++c) {
      out[c] = gate[c] / (1.0f + exponential(-gate[c])) * up[c];
    }
  }
}

void silu_mul(Stream& stream, const SiluMulArgs& args) {
  auto* kernel = &silu_mul_rows_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &silu_mul_rows_avx2;
#endif
  // An exponential and a division weigh about four plain elements.
  for_row_chunks(stream, args.rows, args.columns * 4,
                 [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace crible
