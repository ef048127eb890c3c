#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attention/attention_kernels.h"
#include "ops/exponential.h"
#include "ops/half.h"

namespace crible {
namespace {

template <typename T, typename Convert>
void load(const KeySegment& s, Convert convert) {
  const T* k = static_cast<const T*>(s.k);
  const T* v = static_cast<const T*>(s.v);
  for (int64_t j = 0; j < s.keys; ++j) {
    for (int64_t d = 0; d < s.head_size; ++d) {
      s.k_tile[d * kKeyTile + s.first + j] = convert(k[d * s.block_size + j]);
      s.v_tile[(s.first + j) * s.head_size + d] = convert(v[j * s.head_size + d]);
    }
  }
}

void load_f16(const KeySegment& s) { load<uint16_t>(s, half_to_float); }
void load_f32(const KeySegment& s) {
  load<float>(s, [](float x) { return x; });
}

void attend_row(const AttendArgs& a, int64_t row) {
  const float* q = a.q + row * a.head_size;
  float score[kKeyTile];
  float maximum = a.maximum[row];
  for (int64_t j = 0; j < a.keys; ++j) {
    score[j] = 0.0f;
    for (int64_t d = 0; d < a.head_size; ++d) score[j] = std::fma(q[d], a.k_tile[d * kKeyTile + j], score[j]);
    maximum = std::max(maximum, score[j]);
  }
  const float factor = exponential(a.maximum[row] - maximum);
  a.maximum[row] = maximum;
  float* sum = a.sum + row * kSumLanes;
  for (int64_t i = 0; i < kSumLanes; ++i) sum[i] *= factor;
  for (int64_t j = 0; j < a.keys; ++j) {
    score[j] = exponential(score[j] - maximum);
    sum[j % kSumLanes] += score[j];
  }
  float* out = a.out + row * a.head_size;
  for (int64_t d = 0; d < a.head_size; ++d) {
    float value = out[d] * factor;
    for (int64_t j = 0; j < a.keys; ++j) value = std::fma(score[j], a.v_tile[j * a.head_size + d], value);
    out[d] = value;
  }
}

void attend(const AttendArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) attend_row(args, row);
}

}  // namespace

const AttentionKernels& attention_kernels_scalar() {
  static constexpr AttentionKernels kernels = {load_f16, load_f32, attend};
  return kernels;
}

}  // namespace crible
