// Up to three query rows × 32 keys (or 32 output elements) per register tile: 12 accumulators, one
// loaded vector, three broadcasts.
#include <immintrin.h>

#include "ops/attention/attention_kernels.h"
#include "ops/exponential_avx2.h"

// Register tiles are arrays indexed by unrolled loops; at -O2 the compiler would leave the loops, and
// the accumulators in memory.
#define CRIBLE_UNROLL _Pragma("GCC unroll 16")

namespace crible {
namespace {

constexpr int kTileRows = 3;


struct Half {
  using Element = uint16_t;
  static __m256 load(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};
struct Single {
  using Element = float;
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
};

template <typename Type>
void load(const KeySegment& s) {
  const auto* k = static_cast<const typename Type::Element*>(s.k);
  const auto* v = static_cast<const typename Type::Element*>(s.v);
  for (int64_t d = 0; d < s.head_size; ++d) {
    for (int64_t j = 0; j < s.keys; j += 8) {
      _mm256_storeu_ps(s.k_tile + d * kKeyTile + s.first + j, Type::load(k + d * s.block_size + j));
    }
  }
  for (int64_t j = 0; j < s.keys; ++j) {
    float* row = s.v_tile + (s.first + j) * s.head_size;
    for (int64_t d = 0; d < s.head_size; d += 8) _mm256_storeu_ps(row + d, Type::load(v + j * s.head_size + d));
  }
}

// c[r, 0..8V) = c · factor[r] + Σ over n of a[r, n] · b[n, 0..8V), n ascending.
template <int R, int V>
inline __attribute__((always_inline)) void panel(const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                                                 int64_t n, const float* factor, float* c, int64_t c_stride) {
  __m256 acc[R][V];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) {
      acc[r][v] = factor == nullptr
                      ? _mm256_setzero_ps()
                      : _mm256_mul_ps(_mm256_loadu_ps(c + r * c_stride + v * 8), _mm256_broadcast_ss(factor + r));
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    __m256 x[R];
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) x[r] = _mm256_broadcast_ss(a + r * a_stride + i);
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256 y = _mm256_loadu_ps(b + i * b_stride + v * 8);
      CRIBLE_UNROLL
      for (int r = 0; r < R; ++r) acc[r][v] = _mm256_fmadd_ps(x[r], y, acc[r][v]);
    }
  }
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(c + r * c_stride + v * 8, acc[r][v]);
  }
}

float largest_lane(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  m = _mm_max_ss(m, _mm_movehdup_ps(m));
  return _mm_cvtss_f32(m);
}

// Scores become probabilities in place; returns the factor for what was summed before.
float soften(float* score, int64_t keys, float* maximum, float* sum) {
  const __m256 nothing = _mm256_set1_ps(-__builtin_inff());
  const int64_t vectors = (keys + 7) / 8;
  if (keys % 8 != 0) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i visible = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(keys % 8)), lane);
    float* last = score + (vectors - 1) * 8;
    _mm256_storeu_ps(last, _mm256_blendv_ps(nothing, _mm256_loadu_ps(last), _mm256_castsi256_ps(visible)));
  }
  __m256 largest = nothing;
  for (int64_t v = 0; v < vectors; ++v) largest = _mm256_max_ps(largest, _mm256_loadu_ps(score + v * 8));
  const float before = *maximum;
  const float tile = largest_lane(largest);
  const float now = before < tile ? tile : before;
  *maximum = now;
  const float factor = _mm256_cvtss_f32(exponential(_mm256_set1_ps(before - now)));
  __m256 total = _mm256_mul_ps(_mm256_loadu_ps(sum), _mm256_set1_ps(factor));
  for (int64_t v = 0; v < vectors; ++v) {
    const __m256 p = exponential(_mm256_sub_ps(_mm256_loadu_ps(score + v * 8), _mm256_set1_ps(now)));
    _mm256_storeu_ps(score + v * 8, p);
    total = _mm256_add_ps(total, p);
  }
  _mm256_storeu_ps(sum, total);
  return factor;
}

template <int R>
void attend_rows(const AttendArgs& a, int64_t row) {
  const int64_t hs = a.head_size;
  const float* q = a.q + row * hs;
  alignas(32) float score[R * kKeyTile];
  if (a.keys <= 8) {
    panel<R, 1>(q, hs, a.k_tile, kKeyTile, hs, nullptr, score, kKeyTile);
  } else if (a.keys <= 16) {
    panel<R, 2>(q, hs, a.k_tile, kKeyTile, hs, nullptr, score, kKeyTile);
  } else {
    panel<R, 4>(q, hs, a.k_tile, kKeyTile, hs, nullptr, score, kKeyTile);
  }
  float factor[R];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    factor[r] = soften(score + r * kKeyTile, a.keys, a.maximum + row + r, a.sum + (row + r) * kSumLanes);
  }
  float* out = a.out + row * hs;
  int64_t d = 0;
  for (; d + 32 <= hs; d += 32) panel<R, 4>(score, kKeyTile, a.v_tile + d, hs, a.keys, factor, out + d, hs);
  for (; d < hs; d += 8) panel<R, 1>(score, kKeyTile, a.v_tile + d, hs, a.keys, factor, out + d, hs);
}

void attend(const AttendArgs& args) {
  int64_t row = 0;
  for (; row + kTileRows <= args.rows; row += kTileRows) attend_rows<kTileRows>(args, row);
  switch (args.rows - row) {
    case 1: attend_rows<1>(args, row); break;
    case 2: attend_rows<2>(args, row); break;
    default: break;
  }
}

}  // namespace

const AttentionKernels& attention_kernels_avx2() {
  static constexpr AttentionKernels kernels = {load<Half>, load<Single>, attend};
  return kernels;
}

}  // namespace crible
