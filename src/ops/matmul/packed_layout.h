// How weights lie in a packed matrix. Rows are packed in groups of 16 (zero rows fill the last group), so that one load
// serves 16 rows × a few k and an activation is broadcast once for all of them. A group is a sequence of units along K:
//   F32, F16, BF16   unit = one k: 16 values.
//   quantised        unit = kUnitBlocks blocks of 32 k: a header with the scales of all of them, then each block's values.
//
// Header: 16 half scales; where kMinimum, 16 half minima (of K types negated, so that they too are added); then, in K types,
// for each block 16 bytes of sub-block scales (Q6_K: twice, one per 16 k), and for each block 16 bytes of minima.
// Values of one block, all in 32-bit words of which 16, one a row, follow each other:
//   bytes (Q8_0)  for each 4 k from k0: bytes k0, k0+2, k0+1, k0+3, so that a shift by 8 leaves 16-bit pairs.
//   nibbles       for each 8 k from k0: nibble j of the low half is k0+2j, of the high half k0+2j+1. Masked into bytes, the
//                 low nibbles are k0, k0+4, k0+1, k0+5 and the high ones those + 2: step 2·(k0/8) and the one after it.
//   fifth bits    one word before the nibbles: bit t of byte b belongs to byte b of step t.
//   bits 5 and 6  two words before the nibbles, for 16 k each: bits 2t of byte b belong to byte b of the t-th step of these.
// A unit takes as many bytes as its 16 source blocks; Q4_K and Q5_K, whose 6-bit scales are widened, 4 more a row in 256 k.
//
// This header holds constants only: it is read by files compiled for several instruction sets.
#pragma once

#include <cstdint>

namespace crible {

inline constexpr int64_t kPackRows = 16;
inline constexpr int64_t kQuantBlock = 32;

// What a quantised type's kernels and packer need to know.
//   kSubBlocks   integer sums per block of 32 k, each with its own scale
//   kCentre      what the stored unsigned values are above their meaning
struct PackedQ8_0 {
  static constexpr int64_t kUnitBlocks = 1, kHeaderBytes = 32, kBlockBytes = 512, kUnitBytes = 544;
  static constexpr int kSubBlocks = 1, kCentre = 0;
  static constexpr bool kMinimum = false;
};
struct PackedQ4_0 {
  static constexpr int64_t kUnitBlocks = 1, kHeaderBytes = 32, kBlockBytes = 256, kUnitBytes = 288;
  static constexpr int kSubBlocks = 1, kCentre = 8;
  static constexpr bool kMinimum = false;
};
struct PackedQ4_1 {
  static constexpr int64_t kUnitBlocks = 1, kHeaderBytes = 64, kBlockBytes = 256, kUnitBytes = 320;
  static constexpr int kSubBlocks = 1, kCentre = 0;
  static constexpr bool kMinimum = true;
};
struct PackedQ5_0 {
  static constexpr int64_t kUnitBlocks = 1, kHeaderBytes = 32, kBlockBytes = 320, kUnitBytes = 352;
  static constexpr int kSubBlocks = 1, kCentre = 16;
  static constexpr bool kMinimum = false;
};
struct PackedQ5_1 {
  static constexpr int64_t kUnitBlocks = 1, kHeaderBytes = 64, kBlockBytes = 320, kUnitBytes = 384;
  static constexpr int kSubBlocks = 1, kCentre = 0;
  static constexpr bool kMinimum = true;
};
struct PackedQ4_K {
  static constexpr int64_t kUnitBlocks = 8, kHeaderBytes = 320, kBlockBytes = 256, kUnitBytes = 2368;
  static constexpr int64_t kScalesAt = 64, kMinimaAt = 192;  // bytes into the header
  static constexpr int kSubBlocks = 1, kCentre = 0;
  static constexpr bool kMinimum = true;
};
struct PackedQ5_K {
  static constexpr int64_t kUnitBlocks = 8, kHeaderBytes = 320, kBlockBytes = 320, kUnitBytes = 2880;
  static constexpr int64_t kScalesAt = 64, kMinimaAt = 192;
  static constexpr int kSubBlocks = 1, kCentre = 0;
  static constexpr bool kMinimum = true;
};
struct PackedQ6_K {
  static constexpr int64_t kUnitBlocks = 8, kHeaderBytes = 288, kBlockBytes = 384, kUnitBytes = 3360;
  static constexpr int64_t kScalesAt = 32;
  static constexpr int kSubBlocks = 2, kCentre = 32;
  static constexpr bool kMinimum = false;
};

}  // namespace crible
