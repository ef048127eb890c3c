#include "ops/exponential_avx2.h"
#include "ops/gated_rows_avx2.h"
#include "ops/gelu_mul/gelu_mul_kernels.h"

namespace crible {

void gelu_mul_rows_avx2(const GatedProduct& args, int64_t begin, int64_t end) {
  gated_rows_by_eight(args, begin, end, [](__m256 x) {
    const __m256 inner = _mm256_fmadd_ps(_mm256_set1_ps(kGeluCubic), _mm256_mul_ps(x, x), _mm256_set1_ps(kGeluLinear));
    const __m256 minus_y = _mm256_xor_ps(_mm256_mul_ps(x, inner), _mm256_set1_ps(-0.0f));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exponential(minus_y)));
  });
}

}  // namespace crible
