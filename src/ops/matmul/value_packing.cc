#include "ops/matmul/value_packing.h"

#include <cstring>

#include "ops/matmul/packed_layout.h"

namespace crible {
namespace {

constexpr uint64_t kLowNibbles = 0x0F0F0F0F0F0F0F0Fu;

template <typename T>
T load(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

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

// kCount elements of type T of each row, k by k.
template <typename T, int64_t kCount>
void transpose(FullGroup rows, int64_t at, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; ++lane) {
    for (int64_t k = 0; k < kCount; ++k) {
      std::memcpy(words + (k * kPackRows + lane) * static_cast<int64_t>(sizeof(T)),
                  rows[lane] + at + k * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  }
}

void pack_bytes(FullGroup rows, int64_t at, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; ++lane) {
    for (int64_t w = 0; w < 8; ++w) {
      const uint32_t word = load<uint32_t>(rows[lane] + at + 4 * w);
      store_word(words, w, lane, (word & 0xFF0000FFu) | (word & 0xFF00u) << 8 | (word >> 8 & 0xFF00u));
    }
  }
}

void pack_block_nibbles(FullGroup rows, int64_t at, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; ++lane) {
    for (int64_t w = 0; w < 2; ++w) {
      const uint64_t bytes = load<uint64_t>(rows[lane] + at + 8 * w);
      store_word(words, w, lane, nibble_word(bytes & kLowNibbles));
      store_word(words, w + 2, lane, nibble_word(bytes >> 4 & kLowNibbles));
    }
  }
}

void pack_row_nibbles(FullGroup rows, int64_t at, int shift, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; ++lane) {
    for (int64_t w = 0; w < 4; ++w) {
      store_word(words, w, lane, nibble_word(load<uint64_t>(rows[lane] + at + 8 * w) >> shift & kLowNibbles));
    }
  }
}

void pack_two_bits(FullGroup rows, int64_t at, int shift, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; ++lane) {
    for (int64_t word = 0; word < 2; ++word) {
      uint32_t both = 0;
      for (int64_t w = 0; w < 2; ++w) {
        const uint64_t bytes = load<uint64_t>(rows[lane] + at + 16 * word + 8 * w) >> shift;
        both |= two_bit_word(bytes & 0x0303030303030303u) << (4 * w);
      }
      store_word(words, word, lane, both);
    }
  }
}

}  // namespace

const ValuePackers& value_packers_portable() {
  static constexpr ValuePackers packers = {transpose<uint32_t, 4>, transpose<uint16_t, 8>, pack_bytes, pack_block_nibbles,
                                           pack_row_nibbles,       pack_two_bits};
  return packers;
}

}  // namespace crible
