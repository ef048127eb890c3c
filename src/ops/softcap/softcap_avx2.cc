#include <immintrin.h>

#include "ops/hyperbolic_tangent_avx2.h"
#include "ops/softcap/softcap_kernels.h"

namespace crible {

void softcap_avx2(float* x, float cap, int64_t begin, int64_t end) {
  const __m256 caps = _mm256_set1_ps(cap);
  const auto lanes = [&](__m256 v) { return _mm256_mul_ps(caps, hyperbolic_tangent(_mm256_div_ps(v, caps))); };
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) _mm256_storeu_ps(x + i, lanes(_mm256_loadu_ps(x + i)));
  if (i == end) return;
  alignas(32) float tail[8] = {};
  for (int64_t j = i; j < end; ++j) tail[j - i] = x[j];
  _mm256_store_ps(tail, lanes(_mm256_load_ps(tail)));
  for (int64_t j = i; j < end; ++j) x[j] = tail[j - i];
}

}  // namespace crible
