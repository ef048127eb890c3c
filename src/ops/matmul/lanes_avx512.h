// 16 lanes of 32 bits as one AVX-512 register, for matmul_tiles.h. vpdpwssd multiplies and adds a k pair in one
// instruction, exactly. For files compiled with -mavx512f/bw/dq/vl/vnni, reached only behind cpu_features.h.
#pragma once

// GCC 12's own header reads a deliberately undefined register in its conversions.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include "ops/matmul/matmul_tiles.h"

namespace crible {
namespace {

struct Avx512Lanes {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kTileRows = 8;
  // From these rows on a panel pays for its stores and loads: of bytes, of nibbles, of wider ones; and one of scales alone.
  static constexpr int64_t kPanelMinRows = 64, kNibblePanelMinRows = 64, kWidePanelMinRows = 16;
  static constexpr int64_t kScalePanelMinRows = 16;
  // vpdpwssd takes about five cycles: few rows need several sums under way.
  template <int T>
  static constexpr int chains() { return T == 1 ? 4 : T <= 4 ? 2 : 1; }

  static CRIBLE_INLINE Int load(const std::byte* p) { return _mm512_loadu_si512(p); }
  static CRIBLE_INLINE void store(Int& place, Int value) { place = value; }
  static CRIBLE_INLINE void store(Float& place, Float value) { place = value; }
  static CRIBLE_INLINE Int zero() { return _mm512_setzero_si512(); }
  static CRIBLE_INLINE Int broadcast(int32_t value) { return _mm512_set1_epi32(value); }
  static CRIBLE_INLINE Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static CRIBLE_INLINE Int either(Int a, Int b) { return _mm512_or_si512(a, b); }
  template <uint32_t kMask>
  static CRIBLE_INLINE Int mask(Int a) { return _mm512_and_si512(a, _mm512_set1_epi32(static_cast<int>(kMask))); }
  // Shifts within 16-bit halves of the lanes.
  template <int kBits>
  static CRIBLE_INLINE Int shift_left(Int a) { return _mm512_slli_epi16(a, kBits); }
  template <int kBits>
  static CRIBLE_INLINE Int shift_right(Int a) { return _mm512_srli_epi16(a, kBits); }
  template <int kBits>
  static CRIBLE_INLINE Int shift_right_signed(Int a) { return _mm512_srai_epi16(a, kBits); }

  // sum += weights · the two activations at p.
  static CRIBLE_INLINE void multiply_add(Int& sum, Int weights, const int16_t* p) {
    const float both = *reinterpret_cast<const float*>(p);
    sum = _mm512_dpwssd_epi32(sum, weights, _mm512_castps_si512(_mm512_set1_ps(both)));
  }

  static CRIBLE_INLINE Float zero_float() { return _mm512_setzero_ps(); }
  static CRIBLE_INLINE Float broadcast(float value) { return _mm512_set1_ps(value); }
  static CRIBLE_INLINE Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static CRIBLE_INLINE Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static CRIBLE_INLINE Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static CRIBLE_INLINE Float floats(const std::byte* p) { return _mm512_loadu_ps(p); }
  static CRIBLE_INLINE Float halves(const std::byte* p) { return _mm512_cvtph_ps(load_half(p)); }
  static CRIBLE_INLINE Float bfloats(const std::byte* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half(p)), 16));
  }
  static CRIBLE_INLINE Float unsigned_bytes(const std::byte* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_quarter(p)));
  }
  static CRIBLE_INLINE Float signed_bytes(const std::byte* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_quarter(p)));
  }
  static CRIBLE_INLINE void prefetch(const std::byte* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static CRIBLE_INLINE void store_row(const MatmulTask& task, int64_t row, int64_t n, Float value) {
    float* out = task.out + row * task.out_stride + n;
    const int64_t lanes = task.out_columns - n;
    const __mmask16 mask = lanes >= kPackRows ? 0xFFFF : static_cast<__mmask16>((1u << lanes) - 1);
    if (task.bias != nullptr) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, task.bias + n));
    if (task.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), value);
    _mm512_mask_storeu_ps(out, mask, value);
  }

 private:
  static CRIBLE_INLINE __m256i load_half(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static CRIBLE_INLINE __m128i load_quarter(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
};

}  // namespace
}  // namespace crible
