#include "model/quantised_linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/half.h"

namespace crible {
namespace {

constexpr int64_t kBlock = 32;      // inputs of a ggml block
constexpr int64_t kTileRows = 64;   // outputs converted at once: whole cache lines of packed words

// Bits from the low end of a 32-bit word where AWQ puts output i of its eight.
constexpr std::array<int, 8> kAwqShift = {0, 16, 4, 20, 8, 24, 12, 28};

uint32_t word_at(const std::byte* words, int64_t index) {
  uint32_t word;
  std::memcpy(&word, words + index * 4, sizeof word);
  return word;
}

int32_t zero_at(const GroupQuantised& layer, int64_t group, int64_t row) {
  const int64_t per_word = 32 / layer.bits;
  const uint32_t word = word_at(layer.qzeros, group * (layer.rows / per_word) + row / per_word);
  const uint32_t mask = (1u << layer.bits) - 1;
  if (layer.layout == GroupQuantised::Layout::kAwq) return static_cast<int32_t>(word >> kAwqShift[row % 8] & mask);
  const uint32_t stored = word >> (row % per_word * layer.bits) & mask;
  // A zero point of 0 was stored as -1: the sum wraps within its bits.
  return static_cast<int32_t>((stored + (layer.zeros_less_one ? 1 : 0)) & mask);
}

int64_t group_of(const GroupQuantised& layer, int64_t column) {
  if (layer.group_index == nullptr) return column / layer.group_size;
  return static_cast<int64_t>(word_at(layer.group_index, column));
}

// Whether every 32 inputs are of one group.
bool blocks_share_groups(const GroupQuantised& layer) {
  if (layer.columns % kBlock != 0) return false;
  for (int64_t c = 1; c < layer.columns; ++c) {
    if (c % kBlock != 0 && group_of(layer, c) != group_of(layer, c - 1)) return false;
  }
  return true;
}

// Stored integers of inputs [column, column + count) of outputs [row, row + rows): out [rows, kBlock].
void unpack_tile(const GroupQuantised& layer, int64_t row, int64_t rows, int64_t column, int64_t count, uint8_t* out) {
  const uint32_t mask = (1u << layer.bits) - 1;
  const int64_t per_word = 32 / layer.bits;
  for (int64_t c = 0; c < count; ++c) {
    if (layer.layout == GroupQuantised::Layout::kAwq) {
      const std::byte* words = layer.qweight + (column + c) * (layer.rows / 8) * 4;
      for (int64_t r = 0; r < rows; ++r) {
        out[r * kBlock + c] = static_cast<uint8_t>(word_at(words, (row + r) / 8) >> kAwqShift[(row + r) % 8] & mask);
      }
    } else {
      const std::byte* words = layer.qweight + (column + c) / per_word * layer.rows * 4;
      const int64_t shift = (column + c) % per_word * layer.bits;
      for (int64_t r = 0; r < rows; ++r) {
        out[r * kBlock + c] = static_cast<uint8_t>(word_at(words, row + r) >> shift & mask);
      }
    }
  }
}

void store_half(std::byte* to, uint16_t half) { std::memcpy(to, &half, sizeof half); }
bool is_half(float value) { return half_to_float(float_to_half(value)) == value; }
bool is_finite_half(uint16_t half) { return (half & 0x7c00u) != 0x7c00u; }

// ggml: byte i holds element i in its low and element i + 16 in its high nibble.
void store_nibbles(std::byte* to, const uint8_t* q) {
  for (int64_t i = 0; i < kBlock / 2; ++i) to[i] = static_cast<std::byte>(q[i] | q[i + kBlock / 2] << 4);
}

// The type that holds all of the layer's weights, by its scales and zero points.
DType target_of(const GroupQuantised& layer) {
  if (!blocks_share_groups(layer)) return DType::kF16;
  const int32_t middle = 1 << (layer.bits - 1);
  bool centred = true;
  for (int64_t g = 0; g < layer.groups; ++g) {
    for (int64_t row = 0; row < layer.rows; ++row) {
      const float scale = layer.scales[g * layer.rows + row];
      const int32_t zero = zero_at(layer, g, row);
      if (!is_half(scale) || !is_finite_half(float_to_half(static_cast<float>(zero) * scale))) return DType::kF16;
      centred = centred && zero == middle;
    }
  }
  if (layer.bits == 8) return centred ? DType::kQ8_0 : DType::kF16;
  return centred ? DType::kQ4_0 : DType::kQ4_1;
}

// One output's run of at most 32 inputs; to: a block of the type. False when a weight is beyond half.
bool store_run(const GroupQuantised& layer, DType dtype, int64_t row, int64_t column, int64_t count,
               const uint8_t* q, std::byte* to) {
  if (dtype == DType::kF16) {
    bool finite = true;
    for (int64_t c = 0; c < count; ++c) {
      const int64_t group = group_of(layer, column + c);
      const uint16_t half = float_to_half(static_cast<float>(q[c] - zero_at(layer, group, row)) *
                                          layer.scales[group * layer.rows + row]);
      finite = finite && is_finite_half(half);
      store_half(to + c * 2, half);
    }
    return finite;
  }
  const int64_t group = group_of(layer, column);
  const float scale = layer.scales[group * layer.rows + row];
  store_half(to, float_to_half(scale));
  if (dtype == DType::kQ8_0) {
    for (int64_t c = 0; c < kBlock; ++c) to[2 + c] = static_cast<std::byte>(q[c] - 128);
  } else if (dtype == DType::kQ4_0) {
    store_nibbles(to + 2, q);
  } else {
    store_half(to + 2, float_to_half(static_cast<float>(-zero_at(layer, group, row)) * scale));
    store_nibbles(to + 4, q);
  }
  return true;
}

ConvertedMatrix allocate(DType dtype, int64_t rows, int64_t columns) {
  ConvertedMatrix matrix;
  matrix.storage = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(rows * dtype_row_bytes(dtype, columns)));
  matrix.source = {.dtype = dtype, .rows = rows, .columns = columns, .data = matrix.storage.get()};
  return matrix;
}

// A Q8_0 block of 32 values: the scale is rounded up to a half, so that no quotient leaves ±127.
void store_q8_0(const float* values, std::byte* to) {
  float largest = 0;
  for (int64_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::abs(values[i]));
  uint16_t half = float_to_half(largest / 127);
  if (half_to_float(half) * 127 < largest) ++half;  // the next larger one: halves are ordered as integers
  store_half(to, half);
  const float scale = half_to_float(half);
  for (int64_t i = 0; i < kBlock; ++i) {
    to[2 + i] = static_cast<std::byte>(scale == 0 ? 0 : static_cast<int8_t>(std::lround(values[i] / scale)));
  }
}

uint16_t float_to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

const std::array<float, 256>& e4m3_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (size_t i = 0; i < values.size(); ++i) values[i] = e4m3_to_float(static_cast<uint8_t>(i));
    return values;
  }();
  return table;
}

// False when a weight is not a finite number that the type holds.
bool store_fp8_row(const ScaledFp8& layer, DType dtype, int64_t row, std::byte* to) {
  const auto& values = e4m3_table();
  const int64_t scale_row = row / layer.block_rows * ceil_div(layer.columns, layer.block_columns);
  std::array<float, kBlock> run;
  for (int64_t column = 0; column < layer.columns; column += kBlock) {
    const int64_t count = std::min(kBlock, layer.columns - column);
    float largest = 0;
    for (int64_t c = 0; c < count; ++c) {
      const auto bits = std::to_integer<uint8_t>(layer.values[row * layer.columns + column + c]);
      const float weight = values[bits] * layer.scales[scale_row + (column + c) / layer.block_columns];
      if (!std::isfinite(weight)) return false;
      largest = std::max(largest, std::abs(weight));
      run[static_cast<size_t>(c)] = weight;
    }
    if (dtype == DType::kQ8_0) {
      if (!is_finite_half(float_to_half(largest))) return false;
      store_q8_0(run.data(), to + column / kBlock * dtype_block_bytes(dtype));
    } else {
      for (int64_t c = 0; c < count; ++c) {
        store_half(to + (column + c) * 2, float_to_bfloat16(run[static_cast<size_t>(c)]));
      }
    }
  }
  return true;
}

}  // namespace

float FloatView::operator[](int64_t index) const {
  if (dtype_ == DType::kF32) {
    float value;
    std::memcpy(&value, data_ + index * 4, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, data_ + index * 2, sizeof bits);
  return dtype_ == DType::kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

bool groups_in_order(const GroupQuantised& layer) {
  if (layer.group_index == nullptr) return true;
  for (int64_t c = 0; c < layer.columns; ++c) {
    if (group_of(layer, c) != c / layer.group_size) return false;
  }
  return true;
}

float e4m3_to_float(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return bits & 0x80 ? -magnitude : magnitude;
}

Result<ConvertedMatrix> convert(const GroupQuantised& layer, Stream& stream) {
  const DType dtype = target_of(layer);
  ConvertedMatrix matrix = allocate(dtype, layer.rows, layer.columns);
  const int64_t row_bytes = dtype_row_bytes(dtype, layer.columns);
  std::atomic<bool> fits = true;
  stream.pool().parallel_for(ceil_div(layer.rows, kTileRows), [&](int64_t tile, int) {
    std::array<uint8_t, kTileRows * kBlock> q;
    const int64_t first = tile * kTileRows, rows = std::min(kTileRows, layer.rows - first);
    for (int64_t column = 0; column < layer.columns; column += kBlock) {
      const int64_t count = std::min(kBlock, layer.columns - column);
      unpack_tile(layer, first, rows, column, count, q.data());
      for (int64_t r = 0; r < rows; ++r) {
        std::byte* to = matrix.storage.get() + (first + r) * row_bytes + dtype_row_bytes(dtype, column);
        if (!store_run(layer, dtype, first + r, column, count, q.data() + r * kBlock, to)) fits = false;
      }
    }
  });
  if (!fits) return fail(ErrorCode::kUnsupported, "a weight is beyond the range of half precision");
  return matrix;
}

Result<ConvertedMatrix> convert(const ScaledFp8& layer, Stream& stream) {
  const DType dtype = layer.columns % kBlock == 0 ? DType::kQ8_0 : DType::kBF16;
  ConvertedMatrix matrix = allocate(dtype, layer.rows, layer.columns);
  const int64_t row_bytes = dtype_row_bytes(dtype, layer.columns);
  std::atomic<bool> fits = true;
  stream.pool().parallel_for(layer.rows, [&](int64_t row, int) {
    if (!store_fp8_row(layer, dtype, row, matrix.storage.get() + row * row_bytes)) fits = false;
  });
  if (!fits) return fail(ErrorCode::kCorrupt, "a weight is not a number, or beyond the range of half precision");
  return matrix;
}

}  // namespace crible
