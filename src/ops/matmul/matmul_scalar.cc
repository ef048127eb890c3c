// The portable kernels: the arithmetic that matmul_kernels.h defines, one output at a time. Slow,
// and the reference that every vector kernel must equal bit for bit.
#include <algorithm>
#include <cmath>

#include "ops/half.h"
#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/packed_values.h"

namespace crible {
namespace {

// One output from float weights; Load(p) reads one weight.
template <int64_t kBytes, typename Load>
float dot_float(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row, Load load) {
  float sum = 0.0f;
  for (int64_t k = 0; k < t.columns; ++k) {
    sum = std::fma(t.x[row * t.x_stride + k], load(group + (k * kPackRows + lane) * kBytes), sum);
  }
  return sum;
}

float dot_f32(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  return dot_float<4>(t, group, lane, row, [](const std::byte* p) { return load_packed<float>(p); });
}
float dot_f16(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  return dot_float<2>(t, group, lane, row, [](const std::byte* p) { return half_to_float(load_packed<uint16_t>(p)); });
}
float dot_bf16(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  return dot_float<2>(t, group, lane, row, [](const std::byte* p) { return bfloat16_to_float(load_packed<uint16_t>(p)); });
}

// One output from quantised weights.
template <typename Layout>
float dot_quantised(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  constexpr int64_t kSubBlock = kQuantBlock / Layout::kSubBlocks;
  const int64_t blocks = t.columns / kQuantBlock;
  float sum = 0.0f;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::byte* unit = group + b / Layout::kUnitBlocks * Layout::kUnitBytes;
    const int64_t j = b % Layout::kUnitBlocks;
    const int16_t* values = t.quantised.values + row * t.columns + b * kQuantBlock;
    for (int64_t first = 0; first < kQuantBlock; first += kSubBlock) {
      int32_t dot = 0;
      for (int64_t k = first; k < first + kSubBlock; ++k) dot += values[k] * packed_value<Layout>(unit, j, k, lane);
      const float scale = packed_scale<Layout>(unit, j, first, lane) * t.quantised.scales[row * blocks + b];
      sum = std::fma(static_cast<float>(dot), scale, sum);
    }
    if constexpr (Layout::kMinimum) {
      sum = std::fma(packed_minimum<Layout>(unit, j, lane), t.quantised.sums[row * blocks + b], sum);
    }
  }
  return sum;
}

template <float (*kDot)(const MatmulTask&, const std::byte*, int64_t, int64_t)>
void run(const MatmulTask& t) {
  for (int64_t g = t.group_begin; g < t.group_end; ++g) {
    const int64_t lanes = std::min(kPackRows, t.out_columns - g * kPackRows);
    for (int64_t row = t.row_begin; row < t.row_end; ++row) {
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const int64_t n = g * kPackRows + lane;
        float value = kDot(t, t.weights + g * t.group_bytes, lane, row);
        if (t.bias != nullptr) value += t.bias[n];
        float* out = t.out + row * t.out_stride + n;
        *out = t.accumulate ? *out + value : value;
      }
    }
  }
}

}  // namespace

const FloatKernels& float_kernels_scalar() {
  static constexpr FloatKernels kernels = {run<dot_f32>, run<dot_f16>, run<dot_bf16>};
  return kernels;
}

const BlockKernels& block_kernels_scalar() {
  static constexpr BlockKernels kernels = {run<dot_quantised<PackedQ8_0>>, run<dot_quantised<PackedQ4_0>>,
                                           run<dot_quantised<PackedQ4_1>>, run<dot_quantised<PackedQ5_0>>,
                                           run<dot_quantised<PackedQ5_1>>};
  return kernels;
}

const SuperBlockKernels& super_block_kernels_scalar() {
  static constexpr SuperBlockKernels kernels = {run<dot_quantised<PackedQ4_K>>, run<dot_quantised<PackedQ5_K>>,
                                                run<dot_quantised<PackedQ6_K>>};
  return kernels;
}

}  // namespace crible
