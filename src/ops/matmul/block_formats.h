// The quantised blocks of the ggml formats as they lie in files, little-endian and without padding
// (specification: ggml-common.h and the Python package `gguf` of the ggml project), and the pieces of
// them that take more than one load to find. Knows nothing of packing or products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/half.h"

namespace crible {

// Half floats are kept as bytes: blocks have odd sizes, so nothing in them is aligned.
struct FileHalf {
  uint8_t low, high;
  uint16_t bits() const { return static_cast<uint16_t>(low | high << 8); }
  float value() const { return half_to_float(bits()); }
};

// 32 elements. Nibble bytes: element i in the low, i + 16 in the high nibble of byte i.
struct BlockQ8_0 {
  FileHalf scale;
  int8_t values[32];
};
struct BlockQ4_0 {  // scale · (q - 8)
  FileHalf scale;
  uint8_t nibbles[16];
};
struct BlockQ4_1 {  // scale · q + minimum
  FileHalf scale, minimum;
  uint8_t nibbles[16];
};
struct BlockQ5_0 {  // scale · (q - 16); bit i of high is the fifth of element i
  FileHalf scale;
  uint8_t high[4];
  uint8_t nibbles[16];
};
struct BlockQ5_1 {  // scale · q + minimum
  FileHalf scale, minimum;
  uint8_t high[4];
  uint8_t nibbles[16];
};

// 256 elements, in sub-blocks of 32 (Q6_K: 16) with scales of their own.
// Q4_K and Q5_K: (scale · scales[s]) · q - (minimum · minima[s]). Nibble byte 32·p + i holds element 64·p + i in its
// low and 64·p + 32 + i in its high nibble; bit s of high[i] is the fifth of element 32·s + i.
struct BlockQ4_K {
  FileHalf scale, minimum;
  uint8_t scales[12];
  uint8_t nibbles[128];
};
struct BlockQ5_K {
  FileHalf scale, minimum;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t nibbles[128];
};
// (scale · scales[s]) · (q - 32). In each half of 128 elements, byte 64·h + i of nibbles holds elements i and i + 64, and
// the two bits 2·p of high[32·h + i] belong to element 32·p + i.
struct BlockQ6_K {
  uint8_t nibbles[128];
  uint8_t high[64];
  int8_t scales[16];
  FileHalf scale;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

// Scale and minimum of sub-block s in [0, 8), 6 bits each, from the 12 bytes of Q4_K and Q5_K: the first four of each
// lie in bytes 0 to 3 and 4 to 7; the last four are split into nibbles (bytes 8 to 11) and those bytes' top bits.
inline uint8_t sub_block_scale(const uint8_t* packed, int s) {
  if (s < 4) return packed[s] & 63;
  return static_cast<uint8_t>((packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4);
}
inline uint8_t sub_block_minimum(const uint8_t* packed, int s) {
  if (s < 4) return packed[s + 4] & 63;
  return static_cast<uint8_t>(packed[s + 4] >> 4 | (packed[s] >> 6) << 4);
}

}  // namespace crible
