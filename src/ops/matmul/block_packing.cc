#include "ops/matmul/block_packing.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "ops/half.h"
#include "ops/matmul/block_formats.h"
#include "ops/matmul/packed_values.h"

namespace crible {
namespace {

// --- Words ------------------------------------------------------------------------------------------

uint64_t load_eight(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

void store_half(std::byte* halves, int64_t lane, uint16_t bits) { std::memcpy(halves + 2 * lane, &bits, sizeof bits); }
void store_word(std::byte* words, int64_t index, int64_t lane, uint32_t word) {
  std::memcpy(words + (index * kPackRows + lane) * 4, &word, sizeof word);
}

// Elements 0 to 7 in the low nibbles of eight bytes -> elements 2j in nibble j of the low half, 2j + 1 of the high half.
uint32_t nibble_word(uint64_t bytes) {
  uint64_t even = bytes & 0x000F000F000F000Fu, odd = bytes >> 8 & 0x000F000F000F000Fu;
  even |= even >> 12;
  odd |= odd >> 12;
  const uint64_t low = (even & 0xFF) | (even >> 24 & 0xFF00), high = (odd & 0xFF) | (odd >> 24 & 0xFF00);
  return static_cast<uint32_t>(low | high << 16);
}

// Elements 0 to 7 in the two low bits of eight bytes -> of each byte of the word, two elements of bytes 0, 4, 1, 5 and,
// above them, of those + 2.
uint32_t two_bit_word(uint64_t bytes) {
  const uint64_t even = bytes & 0x0003000300030003u, odd = bytes >> 8 & 0x0003000300030003u;
  const uint64_t low = even | even >> 14, high = odd | odd >> 14;
  return static_cast<uint32_t>((low & 0xF) | (low >> 24 & 0xF00) | (high & 0xF) << 16 | (high >> 8 & 0xF000000));
}

// Bit i of a byte to the place of element i in steps 0 and 1 of a word of fifth bits.
constexpr std::array<uint32_t, 256> make_fifth_bits() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    for (uint32_t k = 0; k < 8; ++k) {
      if ((byte >> k & 1) != 0) table[byte] |= 1u << (8 * (k % 2 * 2 + k / 4) + k % 4 / 2);
    }
  }
  return table;
}
constexpr std::array<uint32_t, 256> kFifthBits = make_fifth_bits();

// high: bit i is the fifth of element i of 32.
uint32_t fifth_bits_word(uint32_t high) {
  uint32_t word = 0;
  for (int w = 0; w < 4; ++w) word |= kFifthBits[high >> (8 * w) & 0xFF] << (2 * w);
  return word;
}

// --- One source block of row `lane` into its unit ----------------------------------------------------

constexpr uint64_t kLowNibbles = 0x0F0F0F0F0F0F0F0Fu;

// nibbles: 16 bytes, elements i and i + 16.
void pack_block_nibbles(const uint8_t* nibbles, std::byte* words, int64_t lane) {
  for (int64_t w = 0; w < 2; ++w) {
    const uint64_t bytes = load_eight(nibbles + 8 * w);
    store_word(words, w, lane, nibble_word(bytes & kLowNibbles));
    store_word(words, w + 2, lane, nibble_word(bytes >> 4 & kLowNibbles));
  }
}

// 32 elements in the low (shift 0) or high (shift 4) nibbles of 32 bytes.
void pack_nibble_row(const uint8_t* nibbles, int shift, std::byte* words, int64_t lane) {
  for (int64_t w = 0; w < 4; ++w) store_word(words, w, lane, nibble_word(load_eight(nibbles + 8 * w) >> shift & kLowNibbles));
}

void pack_block(const BlockQ8_0& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  for (int64_t w = 0; w < 8; ++w) {
    uint32_t word;
    std::memcpy(&word, block.values + 4 * w, sizeof word);
    word = (word & 0xFF0000FFu) | (word & 0xFF00u) << 8 | (word >> 8 & 0xFF00u);
    store_word(unit + PackedQ8_0::kHeaderBytes, w, lane, word);
  }
}

void pack_block(const BlockQ4_0& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  pack_block_nibbles(block.nibbles, unit + PackedQ4_0::kHeaderBytes, lane);
}

void pack_block(const BlockQ4_1& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_half(unit + 2 * kPackRows, lane, block.minimum.bits());
  pack_block_nibbles(block.nibbles, unit + PackedQ4_1::kHeaderBytes, lane);
}

void pack_fifth_bits(const uint8_t* high, std::byte* word, int64_t lane) {
  uint32_t bits;
  std::memcpy(&bits, high, sizeof bits);
  store_word(word, 0, lane, fifth_bits_word(bits));
}

void pack_block(const BlockQ5_0& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  pack_fifth_bits(block.high, unit + PackedQ5_0::kHeaderBytes, lane);
  pack_block_nibbles(block.nibbles, unit + PackedQ5_0::kHeaderBytes + 64, lane);
}

void pack_block(const BlockQ5_1& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_half(unit + 2 * kPackRows, lane, block.minimum.bits());
  pack_fifth_bits(block.high, unit + PackedQ5_1::kHeaderBytes, lane);
  pack_block_nibbles(block.nibbles, unit + PackedQ5_1::kHeaderBytes + 64, lane);
}

// Scales and minima of Q4_K and Q5_K. The minimum's sign is turned, so that kernels add it.
template <typename Layout, typename Block>
void pack_super_block_header(const Block& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_half(unit + 2 * kPackRows, lane, block.minimum.bits() ^ 0x8000u);
  for (int s = 0; s < 8; ++s) {
    unit[Layout::kScalesAt + s * kPackRows + lane] = std::byte{sub_block_scale(block.scales, s)};
    unit[Layout::kMinimaAt + s * kPackRows + lane] = std::byte{sub_block_minimum(block.scales, s)};
  }
}

void pack_block(const BlockQ4_K& block, std::byte* unit, int64_t lane) {
  pack_super_block_header<PackedQ4_K>(block, unit, lane);
  for (int s = 0; s < 8; ++s) {
    pack_nibble_row(block.nibbles + s / 2 * 32, s % 2 * 4, unit + PackedQ4_K::kHeaderBytes + s * PackedQ4_K::kBlockBytes, lane);
  }
}

void pack_block(const BlockQ5_K& block, std::byte* unit, int64_t lane) {
  pack_super_block_header<PackedQ5_K>(block, unit, lane);
  for (int s = 0; s < 8; ++s) {
    std::byte* values = unit + PackedQ5_K::kHeaderBytes + s * PackedQ5_K::kBlockBytes;
    uint32_t fifth = 0;
    for (int w = 0; w < 4; ++w) {
      // The product moves bit 8i of the masked bytes to bit 56 + i.
      const uint64_t bits = load_eight(block.high + 8 * w) >> s & 0x0101010101010101u;
      fifth |= static_cast<uint32_t>(bits * 0x0102040810204080u >> 56) << (8 * w);
    }
    store_word(values, 0, lane, fifth_bits_word(fifth));
    pack_nibble_row(block.nibbles + s / 2 * 32, s % 2 * 4, values + 64, lane);
  }
}

void pack_block(const BlockQ6_K& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  for (int s = 0; s < 16; ++s) {
    unit[PackedQ6_K::kScalesAt + s * kPackRows + lane] = std::byte{static_cast<uint8_t>(block.scales[s])};
  }
  for (int s = 0; s < 8; ++s) {
    const int half = s / 4, quarter = s % 4;
    std::byte* values = unit + PackedQ6_K::kHeaderBytes + s * PackedQ6_K::kBlockBytes;
    for (int64_t word = 0; word < 2; ++word) {
      uint32_t further = 0;
      for (int64_t w = 0; w < 2; ++w) {
        const uint64_t bytes = load_eight(block.high + 32 * half + 16 * word + 8 * w) >> (2 * quarter);
        further |= two_bit_word(bytes & 0x0303030303030303u) << (4 * w);
      }
      store_word(values, word, lane, further);
    }
    pack_nibble_row(block.nibbles + 64 * half + quarter % 2 * 32, quarter / 2 * 4, values + 128, lane);
  }
}

// --- Groups -----------------------------------------------------------------------------------------

// Unit by unit, so that its cache lines are complete before the next is begun.
template <typename Layout, typename Block>
void pack_blocks(std::span<const std::byte* const> rows, int64_t columns, std::byte* group) {
  const int64_t units = columns / (Layout::kUnitBlocks * kQuantBlock);
  for (int64_t u = 0; u < units; ++u, group += Layout::kUnitBytes) {
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      pack_block(*reinterpret_cast<const Block*>(rows[lane] + u * static_cast<int64_t>(sizeof(Block))), group,
                 static_cast<int64_t>(lane));
    }
  }
}

// Float weights: a transposition, a few k at a time.
template <typename T>
void pack_floats(std::span<const std::byte* const> rows, int64_t columns, std::byte* group) {
  constexpr int64_t kStep = 32;
  for (int64_t first = 0; first < columns; first += kStep) {
    const int64_t n = columns - first < kStep ? columns - first : kStep;
    for (size_t lane = 0; lane < rows.size(); ++lane) {
      const std::byte* from = rows[lane] + first * static_cast<int64_t>(sizeof(T));
      std::byte* to = group + (first * kPackRows + static_cast<int64_t>(lane)) * static_cast<int64_t>(sizeof(T));
      for (int64_t k = 0; k < n; ++k) {
        std::memcpy(to + k * kPackRows * static_cast<int64_t>(sizeof(T)), from + k * static_cast<int64_t>(sizeof(T)), sizeof(T));
      }
    }
  }
}

template <typename Layout>
void unpack_blocks(const std::byte* group, int64_t lane, int64_t columns, float* out) {
  for (int64_t b = 0; b < columns / kQuantBlock; ++b, out += kQuantBlock) {
    const std::byte* unit = group + b / Layout::kUnitBlocks * Layout::kUnitBytes;
    const int64_t j = b % Layout::kUnitBlocks;
    constexpr int64_t kSubBlock = kQuantBlock / Layout::kSubBlocks;
    for (int64_t first = 0; first < kQuantBlock; first += kSubBlock) {
      const float scale = packed_scale<Layout>(unit, j, first, lane);
      for (int64_t k = first; k < first + kSubBlock; ++k) {
        out[k] = scale * static_cast<float>(packed_value<Layout>(unit, j, k, lane));
        if constexpr (Layout::kMinimum) out[k] += packed_minimum<Layout>(unit, j, lane);
      }
    }
  }
}

template <typename Layout>
int64_t row_bytes(int64_t columns) {
  return columns / (Layout::kUnitBlocks * kQuantBlock) * (Layout::kUnitBytes / kPackRows);
}

}  // namespace

int64_t packed_row_bytes(DType dtype, int64_t columns) {
  switch (dtype) {
    case DType::kQ4_K: return row_bytes<PackedQ4_K>(columns);
    case DType::kQ5_K: return row_bytes<PackedQ5_K>(columns);
    default: return dtype_row_bytes(dtype, columns);
  }
}

void pack_group(DType dtype, std::span<const std::byte* const> rows, int64_t columns, std::byte* group) {
  if (std::ssize(rows) < kPackRows) {
    std::memset(group, 0, static_cast<size_t>(kPackRows * packed_row_bytes(dtype, columns)));
  }
  switch (dtype) {
    case DType::kF32: return pack_floats<uint32_t>(rows, columns, group);
    case DType::kF16:
    case DType::kBF16: return pack_floats<uint16_t>(rows, columns, group);
    case DType::kQ8_0: return pack_blocks<PackedQ8_0, BlockQ8_0>(rows, columns, group);
    case DType::kQ4_0: return pack_blocks<PackedQ4_0, BlockQ4_0>(rows, columns, group);
    case DType::kQ4_1: return pack_blocks<PackedQ4_1, BlockQ4_1>(rows, columns, group);
    case DType::kQ5_0: return pack_blocks<PackedQ5_0, BlockQ5_0>(rows, columns, group);
    case DType::kQ5_1: return pack_blocks<PackedQ5_1, BlockQ5_1>(rows, columns, group);
    case DType::kQ4_K: return pack_blocks<PackedQ4_K, BlockQ4_K>(rows, columns, group);
    case DType::kQ5_K: return pack_blocks<PackedQ5_K, BlockQ5_K>(rows, columns, group);
    case DType::kQ6_K: return pack_blocks<PackedQ6_K, BlockQ6_K>(rows, columns, group);
    case DType::kI8:
    case DType::kI32: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

void unpack_row(DType dtype, const std::byte* group, int64_t lane, int64_t columns, float* out) {
  switch (dtype) {
    case DType::kF32:
      for (int64_t k = 0; k < columns; ++k) out[k] = load_packed<float>(group + (k * kPackRows + lane) * 4);
      return;
    case DType::kF16:
      for (int64_t k = 0; k < columns; ++k) out[k] = packed_half(group, k * kPackRows + lane);
      return;
    case DType::kBF16:
      for (int64_t k = 0; k < columns; ++k) {
        out[k] = bfloat16_to_float(load_packed<uint16_t>(group + (k * kPackRows + lane) * 2));
      }
      return;
    case DType::kQ8_0: return unpack_blocks<PackedQ8_0>(group, lane, columns, out);
    case DType::kQ4_0: return unpack_blocks<PackedQ4_0>(group, lane, columns, out);
    case DType::kQ4_1: return unpack_blocks<PackedQ4_1>(group, lane, columns, out);
    case DType::kQ5_0: return unpack_blocks<PackedQ5_0>(group, lane, columns, out);
    case DType::kQ5_1: return unpack_blocks<PackedQ5_1>(group, lane, columns, out);
    case DType::kQ4_K: return unpack_blocks<PackedQ4_K>(group, lane, columns, out);
    case DType::kQ5_K: return unpack_blocks<PackedQ5_K>(group, lane, columns, out);
    case DType::kQ6_K: return unpack_blocks<PackedQ6_K>(group, lane, columns, out);
    case DType::kI8:
    case DType::kI32: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

}  // namespace crible
