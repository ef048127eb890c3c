// Up to six query rows × 32 keys (or four rows × 64 output elements) per register tile. The arithmetic of
// attention_kernels.h, sixteen lanes at a time where each lane is a key or an element of its own; the softmax adds across
// lanes and is the eight-lane one, for the same bits. Head sizes are multiples of 16.
// GCC 12's own header reads a deliberately undefined register in its conversions.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include "ops/attention/soften_avx2.h"

namespace crible {
namespace {

constexpr int64_t kLanes = 16;

template <typename T>
__m128i load_bytes(const T* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// Sixteen elements: in one piece, or eight each from two places.
struct Half {
  using Element = uint16_t;
  static __m512 widen(__m256i halves) { return _mm512_cvtph_ps(halves); }
  static __m512 load(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static __m512 load(const uint16_t* a, const uint16_t* b) { return widen(_mm256_set_m128i(load_bytes(b), load_bytes(a))); }
};
struct BFloat {
  using Element = uint16_t;
  static __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  static __m512 load(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static __m512 load(const uint16_t* a, const uint16_t* b) { return widen(_mm256_set_m128i(load_bytes(b), load_bytes(a))); }
};
struct Single {
  using Element = float;
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static __m512 load(const float* a, const float* b) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(a)), _mm256_loadu_ps(b), 1);
  }
};
struct Integer {
  using Element = int8_t;
  static __m512 widen(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }
  static __m512 load(const int8_t* p) { return widen(load_bytes(p)); }
  static __m512 load(const int8_t* a, const int8_t* b) {
    return widen(_mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a)),
                                    _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b))));
  }
};

// Element d of the sixteen keys of a pair of groups, and sixteen elements of one value from element d on.
template <typename Type>
struct CacheSource {
  using Element = typename Type::Element;
  const KeyTile& tile;
  const KeyTile& next;

  CRIBLE_INLINE __m512 keys(int64_t pair, int64_t d) const {
    return Type::load(static_cast<const Element*>(tile.k[2 * pair]) + d * tile.block_size,
                      static_cast<const Element*>(tile.k[2 * pair + 1]) + d * tile.block_size);
  }
  CRIBLE_INLINE const Element* value(int64_t j) const {
    return static_cast<const Element*>(tile.v[j / kKeyGroup]) + j % kKeyGroup * tile.head_size;
  }
  CRIBLE_INLINE __m512 values(const Element* value, int64_t d) const { return Type::load(value + d); }
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

  CRIBLE_INLINE __m512 keys(int64_t pair, int64_t d) const {
    return _mm512_loadu_ps(k_tile + d * kKeyTile + pair * kLanes);
  }
  CRIBLE_INLINE const float* value(int64_t j) const { return v_tile + j * head_size; }
  CRIBLE_INLINE __m512 values(const float* value, int64_t d) const { return _mm512_loadu_ps(value + d); }
  CRIBLE_INLINE void fetch_keys(int64_t) const {}
  CRIBLE_INLINE void fetch_values(int64_t, int64_t) const {}
};

// Whole pairs of groups: what lies beyond the visible groups repeats one of them.
template <typename Type>
void load(const KeyTile& tile, float* k_tile, float* v_tile) {
  const CacheSource<Type> source = {tile, tile};
  for (int64_t d = 0; d < tile.head_size; ++d) {
    for (int64_t pair = tile.first_group / 2; pair < (tile.end_group + 1) / 2; ++pair) {
      _mm512_storeu_ps(k_tile + d * kKeyTile + pair * kLanes, source.keys(pair, d));
    }
  }
  for (int64_t j = tile.first_group * kKeyGroup; j < tile.end_group * kKeyGroup; ++j) {
    const auto* value = source.value(j);
    for (int64_t d = 0; d < tile.head_size; d += kLanes) {
      _mm512_storeu_ps(v_tile + j * tile.head_size + d, source.values(value, d));
    }
  }
}

// Calls f<R>(row) for pieces of R rows, at most `most`.
template <int kMost, typename F>
CRIBLE_INLINE void for_row_pieces(int64_t rows, const F& f) {
  int64_t row = 0;
  if constexpr (kMost >= 6) {
    for (; rows - row >= 6; row += 6) f.template operator()<6>(row);
  }
  for (; rows - row >= 4; row += 4) f.template operator()<4>(row);
  switch (rows - row) {
    case 3: return f.template operator()<3>(row);
    case 2: return f.template operator()<2>(row);
    case 1: return f.template operator()<1>(row);
    default: return;
  }
}

// score[r, 0..16P) = Σ over d of q[r, d] · keys[d, 0..16P), d ascending.
template <int R, int P, typename Source>
CRIBLE_INLINE void score_panel(const AttendArgs& a, int64_t row, const Source& source) {
  const float* q = a.q + row * a.head_size;
  __m512 acc[R][P];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int p = 0; p < P; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < a.head_size; ++d) {
    source.fetch_keys(d);
    __m512 k[P];
    CRIBLE_UNROLL
    for (int p = 0; p < P; ++p) k[p] = source.keys(p, d);
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(q[r * a.head_size + d]);
      CRIBLE_UNROLL
      for (int p = 0; p < P; ++p) acc[r][p] = _mm512_fmadd_ps(x, k[p], acc[r][p]);
    }
  }
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int p = 0; p < P; ++p) _mm512_storeu_ps(a.score + (row + r) * kKeyTile + p * kLanes, acc[r][p]);
  }
}

// out[r, d..d + 16V) = out · factor[r] + Σ over keys of score[r, key] · values[key, d..d + 16V), keys ascending.
template <int R, int V, typename Source>
CRIBLE_INLINE void value_panel(const AttendArgs& a, int64_t row, int64_t d, const float* factor, const Source& source) {
  float* out = a.out + row * a.head_size + d;
  const float* score = a.score + row * kKeyTile;
  __m512 acc[R][V];
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) {
      acc[r][v] = _mm512_mul_ps(_mm512_loadu_ps(out + r * a.head_size + v * kLanes), _mm512_set1_ps(factor[r]));
    }
  }
  for (int64_t j = a.first; j < a.keys; ++j) {
    source.fetch_values(j, d);
    const auto* value = source.value(j);
    __m512 y[V];
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) y[v] = source.values(value, d + v * kLanes);
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(score[r * kKeyTile + j]);
      CRIBLE_UNROLL
      for (int v = 0; v < V; ++v) acc[r][v] = _mm512_fmadd_ps(x, y[v], acc[r][v]);
    }
  }
  CRIBLE_UNROLL
  for (int r = 0; r < R; ++r) {
    CRIBLE_UNROLL
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(out + r * a.head_size + v * kLanes, acc[r][v]);
  }
}

template <typename Source>
CRIBLE_INLINE void attend_source(const AttendArgs& a, const KeyTile& tile, const Source& source) {
  const bool scaled = tile.k_scale[0] != nullptr;
  for_row_pieces<6>(a.rows, [&]<int R>(int64_t row) {
    if (a.keys <= kLanes) {
      score_panel<R, 1>(a, row, source);
    } else {
      score_panel<R, 2>(a, row, source);
    }
  });
  for (int64_t row = 0; scaled && row < a.rows; ++row) scale_keys(a, row, tile.k_scale);
  if (a.softcap != 0.0f) cap(a);
  for_row_pieces<4>(a.rows, [&]<int R>(int64_t row) {
    float factor[R];
    CRIBLE_UNROLL
    for (int r = 0; r < R; ++r) factor[r] = soften(a, row + r);
    for (int r = 0; scaled && r < R; ++r) scale_keys(a, row + r, tile.v_scale);
    int64_t d = 0;
    for (; d + 4 * kLanes <= a.head_size; d += 4 * kLanes) value_panel<R, 4>(a, row, d, factor, source);
    for (; d < a.head_size; d += kLanes) value_panel<R, 1>(a, row, d, factor, source);
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

const AttentionKernels& attention_kernels_avx512() {
  static constexpr AttentionKernels kernels = {kCacheKernels<Single>, kCacheKernels<Half>, kCacheKernels<BFloat>,
                                                kCacheKernels<Integer>, attend};
  return kernels;
}

}  // namespace crible
