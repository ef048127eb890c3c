#include "ops/softcap/softcap.h"

#include "ops/hyperbolic_tangent.h"
#include "ops/row_chunks.h"
#include "ops/softcap/softcap_kernels.h"

namespace crible {

void softcap_scalar(float* x, float cap, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) x[i] = cap * hyperbolic_tangent(x[i] / cap);
}

void softcap(Stream& stream, const SoftcapArgs& args) {
  auto* kernel = &softcap_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &softcap_avx2;
#endif
  // A row of logits is worth several threads, so elements are shared out, not rows. An exponential and two
  // divisions weigh about four plain elements.
  for_row_chunks(stream, args.rows * args.columns, 4,
                 [&](int64_t begin, int64_t end) { kernel(args.x, args.cap, begin, end); });
}

}  // namespace crible
