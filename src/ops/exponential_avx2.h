// exponential.h for eight lanes, the same operations in the same order. Included only by files
// compiled for AVX2 or wider; internal linkage, so that no generic code can pick up this copy.
#pragma once

#include <immintrin.h>

#include "ops/exponential_constants.h"

namespace crible {
namespace {

// eʳ for the remainder r = x - n·ln 2.
[[maybe_unused]] inline __m256 exponential_of_remainder(__m256 x, __m256 n) {
  using namespace exponential_constants;
  __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2High), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(-kLn2Low), r);
  __m256 p = _mm256_set1_ps(kC7);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC6));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC5));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC4));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC3));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kC2));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  return p;
}

[[maybe_unused]] inline __m256 exponential(__m256 x) {
  using namespace exponential_constants;
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(kInverseLn2)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 p = exponential_of_remainder(x, n);
  const __m256i exponent = _mm256_cvtps_epi32(n);
  const __m256i first = _mm256_srai_epi32(exponent, 1);
  const __m256i second = _mm256_sub_epi32(exponent, first);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 power1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const __m256 power2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  __m256 result = _mm256_mul_ps(_mm256_mul_ps(p, power1), power2);
  result = _mm256_blendv_ps(result, _mm256_set1_ps(__builtin_inff()),
                            _mm256_cmp_ps(x, _mm256_set1_ps(kHighest), _CMP_GT_OQ));
  result = _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(kLowest), _CMP_LT_OQ), result);
  // A NaN argument: the arithmetic above has kept it in p, and the powers cannot remove it.
  return result;
}

// The same bits for x <= 0 and NaN, in two thirds of the operations: no result is too large, and the one
// power of two that scales is normal. Adding 1.5·2²³ rounds to an integer and leaves it in the low bits.
[[maybe_unused]] inline __m256 exponential_of_nonpositive(__m256 x) {
  using namespace exponential_constants;
  const __m256 magic = _mm256_set1_ps(0x1.8p23f);
  const __m256 shifted = _mm256_add_ps(_mm256_mul_ps(x, _mm256_set1_ps(kInverseLn2)), magic);
  const __m256 n = _mm256_sub_ps(shifted, magic);
  const __m256 p = exponential_of_remainder(x, n);
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  const __m256 power = _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(kLowest), _CMP_LT_OQ), _mm256_mul_ps(p, power));
}

}  // namespace
}  // namespace crible
