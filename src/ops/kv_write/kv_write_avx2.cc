#include <immintrin.h>

#include "ops/kv_write/kv_write_kernels.h"

namespace crible {
namespace {

// Eight elements to out, `stride` elements apart.
void store_column(__m128i elements, uint16_t* out, int64_t stride) {
  alignas(16) uint16_t column[8];
  _mm_store_si128(reinterpret_cast<__m128i*>(column), elements);
  for (int i = 0; i < 8; ++i) out[i * stride] = column[i];
}

__m128i to_half(const float* x) {
  return _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

__m128i to_bfloat(const float* x) {
  const __m256 value = _mm256_loadu_ps(x);
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i result = _mm256_blendv_epi8(rounded, quiet, is_nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
}

template <__m128i (*Convert)(const float*)>
void write(const float* k, const float* v, const KvHeadSlot& slot) {
  uint16_t* k_out = static_cast<uint16_t*>(slot.k);
  uint16_t* v_out = static_cast<uint16_t*>(slot.v);
  for (int64_t d = 0; d < slot.head_size; d += 8) {
    store_column(Convert(k + d), k_out + d * slot.block_size, slot.block_size);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(v_out + d), Convert(v + d));
  }
}

uint32_t largest_magnitude_bits(const float* x, int64_t n) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  __m256i largest = _mm256_setzero_si256();
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    largest = _mm256_max_epu32(largest, _mm256_and_si256(bits, mask));
  }
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

// Eight integers in the lower half.
__m128i to_integers(const float* x, float inverse) {
  if (inverse == 0.0f) return _mm_setzero_si128();
  const __m256i wide = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse)));
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return _mm_packs_epi16(words, words);
}

void write_i8(const float* k, const float* v, const KvHeadSlot& slot) {
  const IntegerScale ks = integer_scale(largest_magnitude_bits(k, slot.head_size));
  const IntegerScale vs = integer_scale(largest_magnitude_bits(v, slot.head_size));
  int8_t* k_out = static_cast<int8_t*>(slot.k);
  int8_t* v_out = static_cast<int8_t*>(slot.v);
  for (int64_t d = 0; d < slot.head_size; d += 8) {
    alignas(8) int8_t column[8];
    _mm_storel_epi64(reinterpret_cast<__m128i*>(column), to_integers(k + d, ks.inverse));
    for (int i = 0; i < 8; ++i) k_out[(d + i) * slot.block_size] = column[i];
    _mm_storel_epi64(reinterpret_cast<__m128i*>(v_out + d), to_integers(v + d, vs.inverse));
  }
  *slot.k_scale = ks.scale;
  *slot.v_scale = vs.scale;
}

}  // namespace

const KvWriteKernels& kv_write_kernels_avx2() {
  static const KvWriteKernels kernels = {kv_write_kernels_scalar().f32, write<to_half>, write<to_bfloat>, write_i8};
  return kernels;
}

}  // namespace crible
