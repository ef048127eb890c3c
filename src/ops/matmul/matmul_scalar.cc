// The portable kernels: the arithmetic that matmul_kernels.h defines, one output at a time. Slow,
// and the reference that every vector kernel must equal bit for bit.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "ops/half.h"
#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

constexpr float kLargestValue = 32767.0f;
// Below this magnitude a block is taken as zero, so that neither its scale nor the scale's inverse
// leaves float32's normal range.
constexpr float kSmallestMagnitude = 1e-30f;

void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* offset) {
  // Magnitudes compare as integers, where every NaN is above infinity: neither can be overlooked.
  uint32_t largest_bits = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    largest_bits = std::max(largest_bits, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  }
  const float largest = std::bit_cast<float>(largest_bits);
  const bool finite = largest_bits < 0x7F800000u;
  const bool zero = !finite || largest < kSmallestMagnitude;
  const float inverse = zero ? 0.0f : kLargestValue / largest;
  int32_t total = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    const int32_t q = zero ? 0 : static_cast<int32_t>(std::nearbyint(x[i] * inverse));
    values[i] = static_cast<int16_t>(q);
    total += values[i];
  }
  // A value that is not finite makes every output of its row NaN: a fault must stay visible.
  *scale = finite ? (zero ? 0.0f : largest / kLargestValue) : std::bit_cast<float>(0x7FC00000u);
  *sum = *scale * static_cast<float>(total);
  *offset = -8 * total;
}

void quantise_rows(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  const int64_t blocks = columns / kQuantBlock;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      quantise_block(x + r * x_stride + b * kQuantBlock, q.values + r * columns + b * kQuantBlock,
                     q.scales + r * blocks + b, q.sums + r * blocks + b, q.offsets + r * blocks + b);
    }
  }
}

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

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
  return dot_float<4>(t, group, lane, row, [](const std::byte* p) {
    float value;
    std::memcpy(&value, p, sizeof value);
    return value;
  });
}
float dot_f16(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  return dot_float<2>(t, group, lane, row, [](const std::byte* p) { return half_to_float(load_u16(p)); });
}
float dot_bf16(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  return dot_float<2>(t, group, lane, row, [](const std::byte* p) { return bfloat16_to_float(load_u16(p)); });
}

float dot_q8_0(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  constexpr int64_t kPlaceOf[4] = {0, 2, 1, 3};
  const int64_t blocks = t.columns / kQuantBlock;
  const int16_t* values = t.quantised.values + row * t.columns;
  float sum = 0.0f;
  for (int64_t b = 0; b < blocks; ++b, group += 34 * kPackRows, values += kQuantBlock) {
    int32_t dot = 0;
    for (int64_t k = 0; k < kQuantBlock; ++k) {
      const std::byte* word = group + 2 * kPackRows + (k / 4 * kPackRows + lane) * 4;
      dot += values[k] * std::to_integer<int8_t>(word[kPlaceOf[k % 4]]);
    }
    const float scale = half_to_float(load_u16(group + lane * 2)) * t.quantised.scales[row * blocks + b];
    sum = std::fma(static_cast<float>(dot), scale, sum);
  }
  return sum;
}

int32_t dot_nibbles(const std::byte* words, int64_t lane, const int16_t* values) {
  int32_t dot = 0;
  for (int64_t k = 0; k < kQuantBlock; ++k) {
    uint32_t word;
    std::memcpy(&word, words + (k / 8 * kPackRows + lane) * 4, sizeof word);
    dot += values[k] * static_cast<int32_t>(word >> (k % 8 / 2 * 4 + k % 2 * 16) & 0xFu);
  }
  return dot;
}

float dot_q4_0(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  const int64_t blocks = t.columns / kQuantBlock;
  const int16_t* values = t.quantised.values + row * t.columns;
  float sum = 0.0f;
  for (int64_t b = 0; b < blocks; ++b, group += 18 * kPackRows, values += kQuantBlock) {
    const int32_t dot = t.quantised.offsets[row * blocks + b] + dot_nibbles(group + 2 * kPackRows, lane, values);
    const float scale = half_to_float(load_u16(group + lane * 2)) * t.quantised.scales[row * blocks + b];
    sum = std::fma(static_cast<float>(dot), scale, sum);
  }
  return sum;
}

float dot_q4_1(const MatmulTask& t, const std::byte* group, int64_t lane, int64_t row) {
  const int64_t blocks = t.columns / kQuantBlock;
  const int16_t* values = t.quantised.values + row * t.columns;
  float sum = 0.0f;
  for (int64_t b = 0; b < blocks; ++b, group += 20 * kPackRows, values += kQuantBlock) {
    const int32_t dot = dot_nibbles(group + 4 * kPackRows, lane, values);
    const float scale = half_to_float(load_u16(group + lane * 2)) * t.quantised.scales[row * blocks + b];
    const float minimum = half_to_float(load_u16(group + (kPackRows + lane) * 2));
    sum = std::fma(static_cast<float>(dot), scale, sum);
    sum = std::fma(minimum, t.quantised.sums[row * blocks + b], sum);
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

const MatmulKernels& matmul_kernels_scalar() {
  static constexpr MatmulKernels kernels = {quantise_rows, run<dot_f32>,  run<dot_f16>, run<dot_bf16>,
                                            run<dot_q8_0>, run<dot_q4_0>, run<dot_q4_1>};
  return kernels;
}

}  // namespace crible
