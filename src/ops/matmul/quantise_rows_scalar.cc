// Activations to 16-bit blocks: the arithmetic that the vector versions must equal bit for bit.
#include <algorithm>
#include <bit>
#include <cmath>

#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/quantise_each_block.h"

namespace crible {
namespace {

constexpr float kLargestValue = 32767.0f;
// Below this magnitude a block is taken as zero, so that neither its scale nor the scale's inverse
// leaves float32's normal range.
constexpr float kSmallestMagnitude = 1e-30f;

void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* half_sums) {
  // Magnitudes compare as integers, where every NaN is above infinity: neither can be overlooked.
  uint32_t largest_bits = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    largest_bits = std::max(largest_bits, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFu);
  }
  const float largest = std::bit_cast<float>(largest_bits);
  const bool finite = largest_bits < 0x7F800000u;
  const bool zero = !finite || largest < kSmallestMagnitude;
  const float inverse = zero ? 0.0f : kLargestValue / largest;
  half_sums[0] = half_sums[1] = 0;
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    const int32_t q = zero ? 0 : static_cast<int32_t>(std::nearbyint(x[i] * inverse));
    values[i] = static_cast<int16_t>(q);
    half_sums[i / (kQuantBlock / 2)] += values[i];
  }
  // A value that is not finite makes every output of its row NaN: a fault must stay visible.
  *scale = finite ? (zero ? 0.0f : largest / kLargestValue) : std::bit_cast<float>(0x7FC00000u);
  *sum = *scale * static_cast<float>(half_sums[0] + half_sums[1]);
}

}  // namespace

void quantise_rows_scalar(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  quantise_each_block(x, x_stride, rows, columns, q, quantise_block);
}

}  // namespace crible
