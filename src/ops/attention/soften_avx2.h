// A row's scores of one tile become probabilities: softmax, soft-cap and the scales of integer caches, eight lanes at a time.
// The arithmetic of attention_kernels.h. Included only by files compiled for AVX2 or wider; internal linkage.
#pragma once

#include <immintrin.h>

#include "ops/attention/attention_kernels.h"
#include "ops/exponential_avx2.h"
#include "ops/hyperbolic_tangent_avx2.h"

// Register tiles are arrays indexed by unrolled loops; at -O2 the compiler would leave the loops, and
// the accumulators in memory.
#define CRIBLE_UNROLL _Pragma("GCC unroll 16")
#define CRIBLE_INLINE inline __attribute__((always_inline))

namespace crible {
namespace {

inline float largest_lane(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m);
}

[[maybe_unused]] inline void cap(const AttendArgs& a) {
  const __m256 softcap = _mm256_set1_ps(a.softcap), inverse = _mm256_set1_ps(1.0f / a.softcap);
  for (int64_t i = 0; i < a.rows * kKeyTile; i += 8) {
    const __m256 score = _mm256_mul_ps(_mm256_loadu_ps(a.score + i), inverse);
    _mm256_storeu_ps(a.score + i, _mm256_mul_ps(softcap, hyperbolic_tangent(score)));
  }
}

// Of every key of a row: by its own scale.
[[maybe_unused]] inline void scale_keys(const AttendArgs& a, int64_t row, const float* const* scale) {
  for (int64_t g = 0; g < kTileGroups; ++g) {
    float* score = a.score + row * kKeyTile + g * kKeyGroup;
    _mm256_storeu_ps(score, _mm256_mul_ps(_mm256_loadu_ps(score), _mm256_loadu_ps(scale[g])));
  }
}

// One row's scores become probabilities in place; returns the factor for what was summed before.
template <int V>
float soften_vectors(const AttendArgs& a, int64_t row) {
  float* score = a.score + row * kKeyTile;
  float* sum = a.sum + row * kSumLanes;
  __m256 x[V];
  __m256 largest = _mm256_set1_ps(-__builtin_inff());
  CRIBLE_UNROLL
  for (int v = 0; v < V; ++v) {
    x[v] = _mm256_loadu_ps(score + v * 8);
    largest = _mm256_max_ps(largest, x[v]);
  }
  const float before = a.maximum[row];
  const float tile = largest_lane(largest);
  float factor = 1.0f;  // = exponential(0)
  __m256 total = _mm256_loadu_ps(sum);
  if (!(tile <= before)) {
    const float now = before < tile ? tile : before;
    a.maximum[row] = now;
    factor = _mm256_cvtss_f32(exponential_of_nonpositive(_mm256_set1_ps(before - now)));
    total = _mm256_mul_ps(total, _mm256_set1_ps(factor));
  }
  const __m256 maximum = _mm256_set1_ps(a.maximum[row]);
  CRIBLE_UNROLL
  for (int v = 0; v < V; ++v) x[v] = exponential_of_nonpositive(_mm256_sub_ps(x[v], maximum));
  CRIBLE_UNROLL
  for (int v = 0; v < V; ++v) {
    _mm256_storeu_ps(score + v * 8, x[v]);
    total = _mm256_add_ps(total, x[v]);
  }
  _mm256_storeu_ps(sum, total);
  return factor;
}

inline float soften_few(const AttendArgs& a, int64_t row, int64_t vectors) {
  switch (vectors) {
    case 1: return soften_vectors<1>(a, row);
    case 2: return soften_vectors<2>(a, row);
    default: return soften_vectors<3>(a, row);
  }
}

// The same, after the scores of unseen keys, whose probability is 0.
[[maybe_unused]] inline float soften(const AttendArgs& a, int64_t row) {
  const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
  float* score = a.score + row * kKeyTile;
  const int64_t vectors = (a.keys + 7) / 8;
  if (a.first != 0 || a.keys % 8 != 0) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (int64_t v = 0; v < vectors; ++v) {
      const __m256i key = _mm256_add_epi32(lane, _mm256_set1_epi32(static_cast<int>(v * 8)));
      const __m256i unseen = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(a.first)), key),
                                             _mm256_cmpgt_epi32(key, _mm256_set1_epi32(static_cast<int>(a.keys - 1))));
      _mm256_storeu_ps(score + v * 8,
                       _mm256_blendv_ps(_mm256_loadu_ps(score + v * 8), nothing, _mm256_castsi256_ps(unseen)));
    }
  }
  return vectors == kTileGroups ? soften_vectors<kTileGroups>(a, row) : soften_few(a, row, vectors);
}

}  // namespace
}  // namespace crible
