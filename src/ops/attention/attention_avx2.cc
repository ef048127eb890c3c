// Up to three query rows × 32 keys (or 32 output elements) per register tile: 12 accumulators, one
// loaded vector, three broadcasts. Scores of all rows first, then their softmax, then the values, so
// that keys and values in turn fill the first-level cache.
#include <immintrin.h>

#include "ops/attention/attention_kernels.h"
#include "ops/attention/soften_avx2.h"

namespace crible {
namespace {

struct Half {
  using Element = uint16_t;
  static __m256 load(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};
struct BFloat {
  using Element = uint16_t;
  static __m256 load(const uint16_t* p) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
};
struct Single {
  using Element = float;
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
};
struct Integer {
  using Element = int8_t;
  static __m256 load(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
};

// Eight keys' elements d, and eight elements of one value from element d on.
template <typename Type>
struct CacheSource {
  using Element = typename Type::Element;
  const KeyTile& tile;
  const KeyTile& next;

  CRIBLE_INLINE __m256 keys(int64_t group, int64_t d) const {
    return Type::load(static_cast<const Element*>(tile.k[group]) + d * tile.block_size);
  }
  CRIBLE_INLINE const Element* value(int64_t j) const {
    return static_cast<const Element*>(tile.v[j / kKeyGroup]) + j % kKeyGroup * tile.head_size;
  }
  CRIBLE_INLINE __m256 values(const Element* value, int64_t d) const { return Type::load(value + d); }
  // Two groups that share a block share its cache lines.
  CRIBLE_INLINE void fetch_keys(int64_t d) const {
    _mm_prefetch(static_cast<const Element*>(next.k[0]) + d * next.block_size, _MM_HINT_T0);
    _mm_prefetch(static_cast<const Element*>(next.k[2]) + d * next.block_size, _MM_HINT_T0);
  }
  CRIBLE_INLINE void fetch_values(int64_t j, int64_t d) const {
    _mm_prefetch(static_cast<const Element*>(next.v[j / kKeyGroup]) + j % kKeyGroup * next.head_size + d, _MM_HINT_T0);
  }
};
struct TileSource {
  const float* k_tile;
  const float* v_tile;
  int64_t head_size;

  CRIBLE_INLINE __m256 keys(int64_t group, int64_t d) const {
    return _mm256_loadu_ps(k_tile + d * kKeyTile + group * kKeyGroup);
  }
  CRIBLE_INLINE const float* value(int64_t j) const { return v_tile + j * head_size; }
  CRIBLE_INLINE __m256 values(const float* value, int64_t d) const { return _mm256_loadu_ps(value + d); }
  CRIBLE_INLINE void fetch_keys(int64_t) const {}
  CRIBLE_INLINE void fetch_values(int64_t, int64_t) const {}
};

template <typename Type>
void load(const KeyTile& tile, float* k_tile, float* v_tile) {
  const CacheSource<Type> source = {tile, tile};
  for (int64_t d = 0; d < tile.head_size; ++d) {
    for (int64_t g = tile.first_group; g < tile.end_group; ++g) {
      _mm256_storeu_ps(k_tile + d * kKeyTile + g * kKeyGroup, source.keys(g, d));
    }
  }
  for (int64_t j = tile.first_group * kKeyGroup; j < tile.end_group * kKeyGroup; ++j) {
    const auto* value = source.value(j);
    for (int64_t d = 0; d < tile.head_size; d += 8) {
      _mm256_storeu_ps(v_tile + j * tile.head_size + d, source.values(value, d));
    }
  }
}

// Calls f<R>(row) for pieces of R rows; four rows in two pairs, which fill more accumulators than 3 + 1.
template <typename F>
CRIBLE_INLINE void for_row_pieces(int64_t rows, const F& f) {
  int64_t row = 0;
  while (row < rows) {
    const int64_t left = rows - row;
    if (left == 1) {
      f.template operator()<1>(row);
      row += 1;
    } else if (left == 2 || left == 4) {
      f.template operator()<2>(row);
      row += 2;
    } else {
      f.template operator()<3>(row);
      row += 3;
    }
  }
}

// score[r, 0..8G) = Σ over d of q[r, d] · keys[d, 0..8G), d ascending.
template <int R, int G, typename Source>
CRIBLE_INLINE void score_panel(const AttendArgs& a, int64_t row, const Source& source) {
  const float* q = a.q + row * a.head_size;
  __m256 acc[R][G];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int g = 0; g < G; ++g) acc[r][g] = _mm256_setzero_ps();
  }
  for (int64_t d = 0; d < a.head_size; ++d) {
    source.fetch_keys(d);
    __m256 x[R];
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) x[r] = _mm256_broadcast_ss(q + r * a.head_size + d);
    CRIBLE_UNROLL
    for (int g = 0; g < G; ++g) {
      const __m256 k = source.keys(g, d);
      CRIBLE_UNROLL
      for (int r = 0; r < R; ++r) acc[r][g] = _mm256_fmadd_ps(x[r], k, acc[r][g]);
    }
  }
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int g = 0; g < G; ++g) _mm256_storeu_ps(a.score + (row + r) * kKeyTile + g * kKeyGroup, acc[r][g]);
  }
}

// out[r, d..d + 8V) = out · factor[r] + Σ over keys of score[r, key] · values[key, d..d + 8V), keys ascending.
template <int R, int V, typename Source>
CRIBLE_INLINE void value_panel(const AttendArgs& a, int64_t row, int64_t d, const float* factor, const Source& source) {
  float* out = a.out + row * a.head_size + d;
  const float* score = a.score + row * kKeyTile;
  __m256 acc[R][V];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) {
      acc[r][v] = _mm256_mul_ps(_mm256_loadu_ps(out + r * a.head_size + v * 8), _mm256_broadcast_ss(factor + r));
    }
  }
  for (int64_t j = a.first; j < a.keys; ++j) {
    source.fetch_values(j, d);
    const auto* value = source.value(j);
    __m256 x[R];
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) x[r] = _mm256_broadcast_ss(score + r * kKeyTile + j);
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256 y = source.values(value, d + v * 8);
      CRIBLE_UNROLL
      for (int r = 0; r < R; ++r) acc[r][v] = _mm256_fmadd_ps(x[r], y, acc[r][v]);
    }
  }
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) _mm256_storeu_ps(out + r * a.head_size + v * 8, acc[r][v]);
  }
}

template <typename Source>
CRIBLE_INLINE void attend_source(const AttendArgs& a, const KeyTile& tile, const Source& source) {
  const bool scaled = tile.k_scale[0] != nullptr;
  for_row_pieces(a.rows, [&]<int R>(int64_t row) {
    if (a.keys <= 8) {
      score_panel<R, 1>(a, row, source);
    } else if (a.keys <= 16) {
      score_panel<R, 2>(a, row, source);
    } else {
      score_panel<R, 4>(a, row, source);
    }
  });
  for (int64_t row = 0; scaled && row < a.rows; ++row) scale_keys(a, row, tile.k_scale);
  if (a.softcap != 0.0f) cap(a);
  for_row_pieces(a.rows, [&]<int R>(int64_t row) {
    float factor[R];
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) factor[r] = soften(a, row + r);
    for (int r = 0; scaled && r < R; ++r) scale_keys(a, row + r, tile.v_scale);
    int64_t d = 0;
    for (; d + 32 <= a.head_size; d += 32) value_panel<R, 4>(a, row, d, factor, source);
    for (; d < a.head_size; d += 8) value_panel<R, 1>(a, row, d, factor, source);
  });
}

void attend(const AttendArgs& args, const KeyTile& tile, const float* k_tile, const float* v_tile) {
  attend_source(args, tile, TileSource{k_tile, v_tile, args.head_size});
}

template <typename Type>
void attend_cached(const AttendArgs& args, const KeyTile& tile, const KeyTile& next) {
  attend_source(args, tile, CacheSource<Type>{tile, next});
}

template <typename Type>
constexpr CacheKernels kCacheKernels = {load<Type>, attend_cached<Type>};

}  // namespace

const AttentionKernels& attention_kernels_avx2() {
  static constexpr AttentionKernels kernels = {kCacheKernels<Single>, kCacheKernels<Half>, kCacheKernels<BFloat>,
                                                kCacheKernels<Integer>, attend};
  return kernels;
}

}  // namespace crible
