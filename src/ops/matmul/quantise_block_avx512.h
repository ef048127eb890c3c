// One block of activations to 16-bit integers, for AVX-512; the arithmetic of quantise_rows_scalar.cc. Internal linkage:
// files compiled for several instruction sets include it.
#pragma once

// GCC 12's own header reads a deliberately undefined register in its conversions.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

[[maybe_unused]] void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* half_sums) {
  const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
  const __m512i mask = _mm512_set1_epi32(0x7FFFFFFF);
  const int32_t largest_bits = _mm512_reduce_max_epi32(_mm512_max_epi32(
      _mm512_and_si512(_mm512_castps_si512(x0), mask), _mm512_and_si512(_mm512_castps_si512(x1), mask)));
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(largest_bits)));
  const bool finite = largest_bits < 0x7F800000;
  const bool zero = !finite || largest < 1e-30f;
  const __m512 inverse = _mm512_set1_ps(zero ? 0.0f : 32767.0f / largest);
  __m512i q0 = _mm512_setzero_si512(), q1 = q0;
  if (!zero) {
    q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
    q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm512_cvtepi32_epi16(q0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), _mm512_cvtepi32_epi16(q1));
  half_sums[0] = _mm512_reduce_add_epi32(q0);
  half_sums[1] = _mm512_reduce_add_epi32(q1);
  *scale = finite ? (zero ? 0.0f : largest / 32767.0f) : __builtin_nanf("");
  *sum = *scale * static_cast<float>(half_sums[0] + half_sums[1]);
}

}  // namespace
}  // namespace crible
