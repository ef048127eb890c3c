#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attention/attention_kernels.h"
#include "ops/exponential.h"
#include "ops/half.h"
#include "ops/hyperbolic_tangent.h"

namespace crible {
namespace {

struct Half {
  using Element = uint16_t;
  static float convert(uint16_t x) { return half_to_float(x); }
};
struct BFloat {
  using Element = uint16_t;
  static float convert(uint16_t x) { return bfloat16_to_float(x); }
};
struct Single {
  using Element = float;
  static float convert(float x) { return x; }
};
struct Integer {
  using Element = int8_t;
  static float convert(int8_t x) { return x; }
};

// One key's element d, and one value's, of the tile.
template <typename Type>
struct CacheSource {
  const KeyTile& tile;

  float key(int64_t j, int64_t d) const {
    const auto* k = static_cast<const typename Type::Element*>(tile.k[j / kKeyGroup]);
    return Type::convert(k[d * tile.block_size + j % kKeyGroup]);
  }
  float value(int64_t j, int64_t d) const {
    const auto* v = static_cast<const typename Type::Element*>(tile.v[j / kKeyGroup]);
    return Type::convert(v[j % kKeyGroup * tile.head_size + d]);
  }
};
struct TileSource {
  const float* k_tile;
  const float* v_tile;
  int64_t head_size;

  float key(int64_t j, int64_t d) const { return k_tile[d * kKeyTile + j]; }
  float value(int64_t j, int64_t d) const { return v_tile[j * head_size + d]; }
};

template <typename Type>
void load(const KeyTile& tile, float* k_tile, float* v_tile) {
  const CacheSource<Type> source = {tile};
  for (int64_t j = tile.first_group * kKeyGroup; j < tile.end_group * kKeyGroup; ++j) {
    for (int64_t d = 0; d < tile.head_size; ++d) {
      k_tile[d * kKeyTile + j] = source.key(j, d);
      v_tile[j * tile.head_size + d] = source.value(j, d);
    }
  }
}

template <typename Source>
void attend_row(const AttendArgs& a, int64_t row, const KeyTile& tile, const Source& source) {
  const float* q = a.q + row * a.head_size;
  float* score = a.score + row * kKeyTile;
  float maximum = a.maximum[row];
  for (int64_t j = a.first; j < a.keys; ++j) {
    score[j] = 0.0f;
    for (int64_t d = 0; d < a.head_size; ++d) score[j] = std::fma(q[d], source.key(j, d), score[j]);
    if (tile.k_scale[0] != nullptr) score[j] *= tile.k_scale[j / kKeyGroup][j % kKeyGroup];
    if (a.softcap != 0.0f) score[j] = a.softcap * hyperbolic_tangent(score[j] * (1.0f / a.softcap));
    maximum = std::max(maximum, score[j]);
  }
  const float factor = exponential(a.maximum[row] - maximum);
  a.maximum[row] = maximum;
  float* sum = a.sum + row * kSumLanes;
  for (int64_t i = 0; i < kSumLanes; ++i) sum[i] *= factor;
  for (int64_t j = a.first; j < a.keys; ++j) {
    score[j] = exponential(score[j] - maximum);
    sum[j % kSumLanes] += score[j];
    if (tile.v_scale[0] != nullptr) score[j] *= tile.v_scale[j / kKeyGroup][j % kKeyGroup];
  }
  float* out = a.out + row * a.head_size;
  for (int64_t d = 0; d < a.head_size; ++d) {
    float value = out[d] * factor;
    for (int64_t j = a.first; j < a.keys; ++j) value = std::fma(score[j], source.value(j, d), value);
    out[d] = value;
  }
}

void attend(const AttendArgs& args, const KeyTile& tile, const float* k_tile, const float* v_tile) {
  const TileSource source = {k_tile, v_tile, args.head_size};
  for (int64_t row = 0; row < args.rows; ++row) attend_row(args, row, tile, source);
}

template <typename Type>
void attend_cached(const AttendArgs& args, const KeyTile& tile, const KeyTile&) {
  for (int64_t row = 0; row < args.rows; ++row) attend_row(args, row, tile, CacheSource<Type>{tile});
}

template <typename Type>
constexpr CacheKernels kCacheKernels = {load<Type>, attend_cached<Type>};

}  // namespace

const AttentionKernels& attention_kernels_scalar() {
  static constexpr AttentionKernels kernels = {kCacheKernels<Single>, kCacheKernels<Half>, kCacheKernels<BFloat>,
                                                kCacheKernels<Integer>, attend};
  return kernels;
}

}  // namespace crible
