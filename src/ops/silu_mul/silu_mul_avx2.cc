#include "ops/exponential_avx2.h"
#include "ops/gated_rows_avx2.h"
#include "ops/silu_mul/silu_mul_kernels.h"

namespace crible {

void silu_mul_rows_avx2(const GatedProduct& args, int64_t begin, int64_t end) {
  gated_rows_by_eight(args, begin, end, [](__m256 x) {
    const __m256 minus_x = _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exponential(minus_x)));
  });
}

}  // namespace crible
