// Activations to 16-bit blocks, for AVX2; the arithmetic of quantise_rows_scalar.cc.
#include <immintrin.h>

#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/quantise_each_block.h"

namespace crible {
namespace {

float largest_magnitude(__m256 x0, __m256 x1, __m256 x2, __m256 x3) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  const auto magnitude = [&](__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), mask); };
  __m256i m = _mm256_max_epi32(_mm256_max_epi32(magnitude(x0), magnitude(x1)),
                               _mm256_max_epi32(magnitude(x2), magnitude(x3)));
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return _mm_cvtss_f32(_mm_castsi128_ps(h));
}

int32_t sum_of_16bit(__m256i a) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i s = _mm256_madd_epi16(a, ones);
  __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return _mm_cvtsi128_si32(h);
}

void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* half_sums) {
  const __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8);
  const __m256 x2 = _mm256_loadu_ps(x + 16), x3 = _mm256_loadu_ps(x + 24);
  const float largest = largest_magnitude(x0, x1, x2, x3);
  const bool finite = largest < __builtin_inff();  // false for NaN too
  const bool zero = !finite || largest < 1e-30f;
  const __m256 inverse = _mm256_set1_ps(zero ? 0.0f : 32767.0f / largest);
  __m256i a = _mm256_setzero_si256(), b = a;
  if (!zero) {
    a = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x0, inverse)), _mm256_cvtps_epi32(_mm256_mul_ps(x1, inverse)));
    b = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x2, inverse)), _mm256_cvtps_epi32(_mm256_mul_ps(x3, inverse)));
    // The packing works within 128-bit halves: put the quarters back in order.
    a = _mm256_permute4x64_epi64(a, 0xD8);
    b = _mm256_permute4x64_epi64(b, 0xD8);
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), b);
  half_sums[0] = sum_of_16bit(a);
  half_sums[1] = sum_of_16bit(b);
  *scale = finite ? (zero ? 0.0f : largest / 32767.0f) : __builtin_nanf("");
  *sum = *scale * static_cast<float>(half_sums[0] + half_sums[1]);
}

}  // namespace

void quantise_rows_avx2(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  quantise_each_block(x, x_stride, rows, columns, q, quantise_block);
}

}  // namespace crible
