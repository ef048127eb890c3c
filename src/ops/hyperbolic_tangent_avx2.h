// hyperbolic_tangent.h for eight lanes, the same operations in the same order. Included only by files
// compiled for AVX2 or wider; internal linkage, so that no generic code can pick up this copy.
#pragma once

#include "ops/exponential_avx2.h"
#include "ops/hyperbolic_tangent_constants.h"

namespace crible {
namespace {

[[maybe_unused]] inline __m256 hyperbolic_tangent(__m256 x) {
  using namespace hyperbolic_tangent_constants;
  const __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
  const __m256 magnitude = _mm256_xor_ps(x, sign);
  const __m256 square = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(kP4);
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(kP3));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(kP2));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(kP1));
  p = _mm256_fmadd_ps(p, square, _mm256_set1_ps(kP0));
  const __m256 near_zero = _mm256_fmadd_ps(_mm256_mul_ps(x, square), p, x);
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 power = exponential(_mm256_add_ps(magnitude, magnitude));
  const __m256 far = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(power, one)));
  const __m256 is_near = _mm256_cmp_ps(magnitude, _mm256_set1_ps(kPolynomialBelow), _CMP_LT_OQ);
  return _mm256_blendv_ps(_mm256_or_ps(far, sign), near_zero, is_near);
}

}  // namespace
}  // namespace crible
