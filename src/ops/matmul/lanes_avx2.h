// 16 lanes of 32 bits as two AVX2 registers, for matmul_tiles.h. The 16-bit products of vpmaddwd are exact. For files
// compiled with -mavx2 -mfma -mf16c, reached only behind cpu_features.h.
#pragma once

#include <immintrin.h>

#include "ops/matmul/matmul_tiles.h"

namespace crible {
namespace {

struct Avx2Lanes {
  struct Int {
    __m256i low, high;  // rows 0 to 7, 8 to 15
  };
  struct Float {
    __m256 low, high;
  };
  static constexpr int kTileRows = 4;  // 8 accumulators, 4 weight registers, 1 activation: fills 16 registers
  // From these rows on a panel pays for its stores and loads: of bytes; of nibbles, whose unpacking hides behind the
  // multiplications; of wider ones. Nibbles with scales in super-blocks gain by a panel of scales alone.
  static constexpr int64_t kPanelMinRows = 32, kNibblePanelMinRows = INT64_MAX, kWidePanelMinRows = 5;
  static constexpr int64_t kScalePanelMinRows = 8;
  template <int T>
  static constexpr int chains() { return 1; }

  static CRIBLE_INLINE Int load(const std::byte* p) { return {load_half(p), load_half(p + 32)}; }
  // Into memory, member by member: whole structures would be copied by way of general registers.
  static CRIBLE_INLINE void store(Int& place, Int value) {
    place.low = value.low;
    place.high = value.high;
  }
  static CRIBLE_INLINE void store(Float& place, Float value) {
    place.low = value.low;
    place.high = value.high;
  }
  static CRIBLE_INLINE Int zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static CRIBLE_INLINE Int broadcast(int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
  static CRIBLE_INLINE Int add(Int a, Int b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  static CRIBLE_INLINE Int either(Int a, Int b) { return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)}; }
  template <uint32_t kMask>
  static CRIBLE_INLINE Int mask(Int a) {
    const __m256i m = _mm256_set1_epi32(static_cast<int>(kMask));
    return {_mm256_and_si256(a.low, m), _mm256_and_si256(a.high, m)};
  }
  // Shifts within 16-bit halves of the lanes.
  template <int kBits>
  static CRIBLE_INLINE Int shift_left(Int a) { return {_mm256_slli_epi16(a.low, kBits), _mm256_slli_epi16(a.high, kBits)}; }
  template <int kBits>
  static CRIBLE_INLINE Int shift_right(Int a) { return {_mm256_srli_epi16(a.low, kBits), _mm256_srli_epi16(a.high, kBits)}; }
  template <int kBits>
  static CRIBLE_INLINE Int shift_right_signed(Int a) {
    return {_mm256_srai_epi16(a.low, kBits), _mm256_srai_epi16(a.high, kBits)};
  }

  // sum += weights · the two activations at p.
  static CRIBLE_INLINE void multiply_add(Int& sum, Int weights, const int16_t* p) {
    const __m256i a = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
    sum.low = _mm256_add_epi32(sum.low, _mm256_madd_epi16(weights.low, a));
    sum.high = _mm256_add_epi32(sum.high, _mm256_madd_epi16(weights.high, a));
    // Integer sums may be reordered, and the compiler would: all products first, to memory, sums
    // after. This keeps each sum in its register.
    asm("" : "+x"(sum.low), "+x"(sum.high));
  }

  static CRIBLE_INLINE Float zero_float() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static CRIBLE_INLINE Float broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
  static CRIBLE_INLINE Float multiply(Float a, Float b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  static CRIBLE_INLINE Float multiply_add(Float a, Float b, Float c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  static CRIBLE_INLINE Float to_float(Int a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
  static CRIBLE_INLINE Float floats(const std::byte* p) {
    const float* f = reinterpret_cast<const float*>(p);
    return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
  }
  static CRIBLE_INLINE Float halves(const std::byte* p) {
    return {_mm256_cvtph_ps(load_quarter(p)), _mm256_cvtph_ps(load_quarter(p + 16))};
  }
  static CRIBLE_INLINE Float bfloats(const std::byte* p) {
    return {widen_bfloats(load_quarter(p)), widen_bfloats(load_quarter(p + 16))};
  }
  static CRIBLE_INLINE Float unsigned_bytes(const std::byte* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eighth(p))),
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_eighth(p + 8)))};
  }
  static CRIBLE_INLINE Float signed_bytes(const std::byte* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eighth(p))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_eighth(p + 8)))};
  }
  static CRIBLE_INLINE void prefetch(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static void store_row(const MatmulTask& task, int64_t row, int64_t n, Float value) {
    float* out = task.out + row * task.out_stride + n;
    if (n + kPackRows <= task.out_columns) {
      if (task.bias != nullptr) value = add(value, floats(reinterpret_cast<const std::byte*>(task.bias + n)));
      if (task.accumulate) value = add(floats(reinterpret_cast<const std::byte*>(out)), value);
      _mm256_storeu_ps(out, value.low);
      _mm256_storeu_ps(out + 8, value.high);
      return;
    }
    alignas(32) float values[kPackRows];
    _mm256_store_ps(values, value.low);
    _mm256_store_ps(values + 8, value.high);
    for (int64_t i = 0; n + i < task.out_columns; ++i) {
      if (task.bias != nullptr) values[i] += task.bias[n + i];
      out[i] = task.accumulate ? out[i] + values[i] : values[i];
    }
  }

 private:
  static CRIBLE_INLINE __m256i load_half(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static CRIBLE_INLINE __m128i load_quarter(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static CRIBLE_INLINE __m128i load_eighth(const std::byte* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
  static CRIBLE_INLINE __m256 widen_bfloats(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  static CRIBLE_INLINE Float add(Float a, Float b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
};

}  // namespace
}  // namespace crible
