// Reads single weights out of packed blocks: the portable side of packed_layout.h, used by the reference kernels and by
// PackedMatrix::dequantize_row. `unit` is a unit of packed_layout.h, j a block in it, k an element of the block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ops/half.h"
#include "ops/matmul/packed_layout.h"

namespace crible {

template <typename T>
T load_packed(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline float packed_half(const std::byte* halves, int64_t lane) {
  return half_to_float(load_packed<uint16_t>(halves + 2 * lane));
}

// Word `index` of row `lane` among words of which 16, one a row, follow each other.
inline uint32_t packed_word(const std::byte* words, int64_t index, int64_t lane) {
  return load_packed<uint32_t>(words + (index * kPackRows + lane) * 4);
}

inline int packed_nibble(const std::byte* nibbles, int64_t k, int64_t lane) {
  return static_cast<int>(packed_word(nibbles, k / 8, lane) >> (k % 8 / 2 * 4 + k % 2 * 16) & 0xFu);
}

// The byte that element k has when nibbles are masked into bytes: step (of 8 in a block) and byte in its word.
struct BytePlace {
  int64_t step, byte;
};
inline BytePlace byte_place(int64_t k) { return {k / 8 * 2 + k % 4 / 2, k % 2 * 2 + k % 8 / 4}; }

// Values of one block as stored: still above their meaning by kCentre.
inline int stored_value(PackedQ8_0, const std::byte* values, int64_t k, int64_t lane) {
  constexpr int64_t kByteOf[4] = {0, 2, 1, 3};
  return static_cast<int8_t>(packed_word(values, k / 4, lane) >> (8 * kByteOf[k % 4]));
}
inline int stored_value(PackedQ4_0, const std::byte* values, int64_t k, int64_t lane) {
  return packed_nibble(values, k, lane);
}
inline int stored_value(PackedQ4_1, const std::byte* values, int64_t k, int64_t lane) {
  return packed_nibble(values, k, lane);
}
inline int stored_value(PackedQ4_K, const std::byte* values, int64_t k, int64_t lane) {
  return packed_nibble(values, k, lane);
}
inline int five_bits(const std::byte* values, int64_t k, int64_t lane) {
  const BytePlace place = byte_place(k);
  const uint32_t fifth = packed_word(values, 0, lane) >> (8 * place.byte + place.step) & 1u;
  return packed_nibble(values + 64, k, lane) | static_cast<int>(fifth << 4);
}
inline int stored_value(PackedQ5_0, const std::byte* values, int64_t k, int64_t lane) { return five_bits(values, k, lane); }
inline int stored_value(PackedQ5_1, const std::byte* values, int64_t k, int64_t lane) { return five_bits(values, k, lane); }
inline int stored_value(PackedQ5_K, const std::byte* values, int64_t k, int64_t lane) { return five_bits(values, k, lane); }
inline int stored_value(PackedQ6_K, const std::byte* values, int64_t k, int64_t lane) {
  const BytePlace place = byte_place(k);
  const uint32_t further = packed_word(values, place.step / 4, lane) >> (8 * place.byte + place.step % 4 * 2) & 3u;
  return packed_nibble(values + 128, k, lane) | static_cast<int>(further << 4);
}

template <typename Layout>
int packed_value(const std::byte* unit, int64_t j, int64_t k, int64_t lane) {
  return stored_value(Layout{}, unit + Layout::kHeaderBytes + j * Layout::kBlockBytes, k, lane) - Layout::kCentre;
}

// Scale of the sub-block that holds element k of block j.
template <typename Layout>
float packed_scale(const std::byte* unit, int64_t j, int64_t k, int64_t lane) {
  const float scale = packed_half(unit, lane);
  if constexpr (Layout::kUnitBlocks == 1) {
    return scale;
  } else {
    const int64_t sub_block = j * Layout::kSubBlocks + k / (kQuantBlock / Layout::kSubBlocks);
    const std::byte* own = unit + Layout::kScalesAt + sub_block * kPackRows + lane;
    if constexpr (Layout::kMinimum) return scale * static_cast<float>(std::to_integer<uint8_t>(*own));
    return scale * static_cast<float>(std::to_integer<int8_t>(*own));
  }
}

template <typename Layout>
float packed_minimum(const std::byte* unit, int64_t j, int64_t lane) {
  static_assert(Layout::kMinimum);
  const float minimum = packed_half(unit + 2 * kPackRows, lane);
  if constexpr (Layout::kUnitBlocks == 1) {
    return minimum;
  } else {
    return minimum * static_cast<float>(std::to_integer<uint8_t>(unit[Layout::kMinimaAt + j * kPackRows + lane]));
  }
}

}  // namespace crible
