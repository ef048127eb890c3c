// The values of a few elements (32 where not said) of 16 rows into packed words (packed_layout.h): the part of packing that a vector unit does
// several times faster than portable code. All versions write the same bytes. rows: of 16 rows; `at` bytes into each lie
// the elements.
//
// This header holds no functions with bodies: it is read by files compiled for several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/cpu_features.h"

namespace crible {

using FullGroup = const std::byte* const (&)[16];

struct ValuePackers {
  // Float weights, a transposition: 4 elements of 4 bytes -> 4 × 16; 8 elements of 2 bytes -> 8 × 16.
  void (*four_floats)(FullGroup rows, int64_t at, std::byte* words);
  void (*eight_halves)(FullGroup rows, int64_t at, std::byte* words);
  // 32 bytes -> 8 × 16 words.
  void (*bytes)(FullGroup rows, int64_t at, std::byte* words);
  // 16 bytes, elements i in the low and i + 16 in the high nibbles -> 4 × 16 words.
  void (*block_nibbles)(FullGroup rows, int64_t at, std::byte* words);
  // 32 bytes, the elements in their low (shift 0) or high (shift 4) nibbles -> 4 × 16 words.
  void (*row_nibbles)(FullGroup rows, int64_t at, int shift, std::byte* words);
  // 32 bytes, the elements in their two bits from `shift` on -> 2 × 16 words.
  void (*two_bits)(FullGroup rows, int64_t at, int shift, std::byte* words);
};

const ValuePackers& value_packers_portable();
#if defined(__x86_64__)
const ValuePackers& value_packers_avx2();
#endif

}  // namespace crible
