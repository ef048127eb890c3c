#include "ops/matmul/block_packing.h"

#include <array>
#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "ops/half.h"
#include "ops/matmul/block_formats.h"
#include "ops/matmul/packed_values.h"

namespace crible {
namespace {

uint64_t load_eight(const uint8_t* p) {
  uint64_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

void store_half(std::byte* halves, int64_t lane, uint16_t bits) { std::memcpy(halves + 2 * lane, &bits, sizeof bits); }

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
void store_fifth_bits(std::byte* words, int64_t lane, uint32_t high) {
  uint32_t word = 0;
  for (int w = 0; w < 4; ++w) word |= kFifthBits[high >> (8 * w) & 0xFF] << (2 * w);
  std::memcpy(words + lane * 4, &word, sizeof word);
}

// --- One source block of row `lane` into its unit: scales, minima and fifth bits ----------------------

void pack_row(const BlockQ8_0& block, std::byte* unit, int64_t lane) { store_half(unit, lane, block.scale.bits()); }
void pack_row(const BlockQ4_0& block, std::byte* unit, int64_t lane) { store_half(unit, lane, block.scale.bits()); }

void pack_row(const BlockQ4_1& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_half(unit + 2 * kPackRows, lane, block.minimum.bits());
}

uint32_t fifth_bits(const uint8_t* high) {
  uint32_t bits;
  std::memcpy(&bits, high, sizeof bits);
  return bits;
}

void pack_row(const BlockQ5_0& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_fifth_bits(unit + PackedQ5_0::kHeaderBytes, lane, fifth_bits(block.high));
}

void pack_row(const BlockQ5_1& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  store_half(unit + 2 * kPackRows, lane, block.minimum.bits());
  store_fifth_bits(unit + PackedQ5_1::kHeaderBytes, lane, fifth_bits(block.high));
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

void pack_row(const BlockQ4_K& block, std::byte* unit, int64_t lane) {
  pack_super_block_header<PackedQ4_K>(block, unit, lane);
}

void pack_row(const BlockQ5_K& block, std::byte* unit, int64_t lane) {
  pack_super_block_header<PackedQ5_K>(block, unit, lane);
  for (int s = 0; s < 8; ++s) {
    uint32_t fifth = 0;
    for (int w = 0; w < 4; ++w) {
      // The product moves bit 8i of the masked bytes to bit 56 + i.
      const uint64_t bits = load_eight(block.high + 8 * w) >> s & 0x0101010101010101u;
      fifth |= static_cast<uint32_t>(bits * 0x0102040810204080u >> 56) << (8 * w);
    }
    store_fifth_bits(unit + PackedQ5_K::kHeaderBytes + s * PackedQ5_K::kBlockBytes, lane, fifth);
  }
}

void pack_row(const BlockQ6_K& block, std::byte* unit, int64_t lane) {
  store_half(unit, lane, block.scale.bits());
  for (int s = 0; s < 16; ++s) {
    unit[PackedQ6_K::kScalesAt + s * kPackRows + lane] = std::byte{static_cast<uint8_t>(block.scales[s])};
  }
}

// --- The values of 16 rows; `at`: bytes from the start of each row to its source block -----------------

// After the words of further bits, of which there are kHighWords.
template <typename Layout, int kHighWords, typename Block>
void pack_block_nibbles(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const Block*) {
  packers.block_nibbles(rows, at + static_cast<int64_t>(offsetof(Block, nibbles)), unit + Layout::kHeaderBytes + kHighWords * 64);
}

template <typename Layout, int kHighWords, typename Block>
void pack_super_block_nibbles(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const Block*) {
  for (int s = 0; s < 8; ++s) {
    packers.row_nibbles(rows, at + static_cast<int64_t>(offsetof(Block, nibbles)) + s / 2 * 32, s % 2 * 4,
                        unit + Layout::kHeaderBytes + s * Layout::kBlockBytes + kHighWords * 64);
  }
}

void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ8_0*) {
  packers.bytes(rows, at + static_cast<int64_t>(offsetof(BlockQ8_0, values)), unit + PackedQ8_0::kHeaderBytes);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ4_0* block) {
  pack_block_nibbles<PackedQ4_0, 0>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ4_1* block) {
  pack_block_nibbles<PackedQ4_1, 0>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ5_0* block) {
  pack_block_nibbles<PackedQ5_0, 1>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ5_1* block) {
  pack_block_nibbles<PackedQ5_1, 1>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ4_K* block) {
  pack_super_block_nibbles<PackedQ4_K, 0>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ5_K* block) {
  pack_super_block_nibbles<PackedQ5_K, 1>(packers, rows, at, unit, block);
}
void pack_values(const ValuePackers& packers, FullGroup rows, int64_t at, std::byte* unit, const BlockQ6_K*) {
  for (int s = 0; s < 8; ++s) {
    const int half = s / 4, quarter = s % 4;
    std::byte* values = unit + PackedQ6_K::kHeaderBytes + s * PackedQ6_K::kBlockBytes;
    packers.two_bits(rows, at + static_cast<int64_t>(offsetof(BlockQ6_K, high)) + 32 * half, 2 * quarter, values);
    packers.row_nibbles(rows, at + static_cast<int64_t>(offsetof(BlockQ6_K, nibbles)) + 64 * half + quarter % 2 * 32,
                        quarter / 2 * 4, values + 128);
  }
}

// --- Groups -----------------------------------------------------------------------------------------

// Unit by unit, so that its cache lines are complete before the next is begun.
template <typename Layout, typename Block>
void pack_blocks(const ValuePackers& packers, FullGroup rows, int64_t columns, std::byte* group) {
  constexpr int64_t kBytes = sizeof(Block);
  const int64_t units = columns / (Layout::kUnitBlocks * kQuantBlock);
  for (int64_t u = 0; u < units; ++u, group += Layout::kUnitBytes) {
    for (int64_t lane = 0; lane < kPackRows; ++lane) {
      pack_row(*reinterpret_cast<const Block*>(rows[lane] + u * kBytes), group, lane);
    }
    pack_values(packers, rows, u * kBytes, group, static_cast<const Block*>(nullptr));
  }
}

// Float weights, kStep elements at a time; the last few one by one.
template <typename T, int64_t kStep>
void pack_floats(void (*transpose)(FullGroup, int64_t, std::byte*), FullGroup rows, int64_t columns, std::byte* group) {
  constexpr int64_t kBytes = sizeof(T);
  const int64_t whole = columns / kStep * kStep;
  for (int64_t k = 0; k < whole; k += kStep) transpose(rows, k * kBytes, group + k * kPackRows * kBytes);
  for (int64_t k = whole; k < columns; ++k) {
    for (int64_t lane = 0; lane < kPackRows; ++lane) {
      std::memcpy(group + (k * kPackRows + lane) * kBytes, rows[lane] + k * kBytes, sizeof(T));
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

void pack_group(CpuIsa isa, DType dtype, FullGroup rows, int64_t columns, std::byte* group) {
#if defined(__x86_64__)
  const ValuePackers& packers = isa >= CpuIsa::kAvx2 ? value_packers_avx2() : value_packers_portable();
#else
  const ValuePackers& packers = value_packers_portable();
#endif
  switch (dtype) {
    case DType::kF32: return pack_floats<uint32_t, 4>(packers.four_floats, rows, columns, group);
    case DType::kF16:
    case DType::kBF16: return pack_floats<uint16_t, 8>(packers.eight_halves, rows, columns, group);
    case DType::kQ8_0: return pack_blocks<PackedQ8_0, BlockQ8_0>(packers, rows, columns, group);
    case DType::kQ4_0: return pack_blocks<PackedQ4_0, BlockQ4_0>(packers, rows, columns, group);
    case DType::kQ4_1: return pack_blocks<PackedQ4_1, BlockQ4_1>(packers, rows, columns, group);
    case DType::kQ5_0: return pack_blocks<PackedQ5_0, BlockQ5_0>(packers, rows, columns, group);
    case DType::kQ5_1: return pack_blocks<PackedQ5_1, BlockQ5_1>(packers, rows, columns, group);
    case DType::kQ4_K: return pack_blocks<PackedQ4_K, BlockQ4_K>(packers, rows, columns, group);
    case DType::kQ5_K: return pack_blocks<PackedQ5_K, BlockQ5_K>(packers, rows, columns, group);
    case DType::kQ6_K: return pack_blocks<PackedQ6_K, BlockQ6_K>(packers, rows, columns, group);
    default: break;
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
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

}  // namespace crible
