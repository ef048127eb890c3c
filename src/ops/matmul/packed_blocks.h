// How each quantised type's packed block becomes 16-bit weights, written once over V: 16 lanes of 32 bits, one a weight
// row, in the registers of one instruction set (lanes_avx2.h, lanes_avx512.h). For kernel files only. V has internal linkage
// and with it everything made from it here, so that no code is shared between instruction sets.
//
// A block of 32 k is taken in 8 steps; step<s> gives two k pairs: of each 32-bit lane the low half is the weight of
// k_of(s, i), the high half that of the k after it; bytes<s> gives the same weights as bytes, of which byte b is that of
// k_of(s, b % 2) + b / 2. All but Q8_0's are unsigned: kCentre says what to subtract. kPanelMinRows: rows from which
// unpacking once for all of them pays; it depends on what a step costs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/matmul/packed_layout.h"

#define CRIBLE_INLINE inline __attribute__((always_inline))

namespace crible {

template <class V>
struct PairOfPairs {
  typename V::Int first, second;
};

// --- Values ---------------------------------------------------------------------------------------

template <class V>
struct ByteSteps {
  static constexpr int64_t kPanelMinRows = V::kPanelMinRows;
  static CRIBLE_INLINE constexpr int64_t k_of(int step, int i) { return 4 * step + 2 * i; }
  template <int kStep>
  static CRIBLE_INLINE PairOfPairs<V> step(const std::byte* values) {
    const auto words = V::load(values + kStep * 64);
    return {V::template shift_right_signed<8>(V::template shift_left<8>(words)), V::template shift_right_signed<8>(words)};
  }
  template <int kStep>
  static CRIBLE_INLINE typename V::Int bytes(const std::byte* values) { return V::load(values + kStep * 64); }
};

// What all nibble types have in common: the order of steps.
struct NibbleOrder {
  static CRIBLE_INLINE constexpr int64_t k_of(int step, int i) { return step / 2 * 8 + step % 2 * 2 + 4 * i; }
};

template <class V>
struct NibbleSteps : NibbleOrder {
  static constexpr int64_t kPanelMinRows = V::kNibblePanelMinRows;
  template <int kStep>
  static CRIBLE_INLINE PairOfPairs<V> step(const std::byte* values) {
    const auto words = V::load(values + kStep / 2 * 64);
    if constexpr (kStep % 2 == 0) {
      return {V::template mask<0x000F000F>(words), V::template mask<0x000F000F>(V::template shift_right<8>(words))};
    } else {
      return {V::template mask<0x000F000F>(V::template shift_right<4>(words)), V::template shift_right<12>(words)};
    }
  }
  template <int kStep>
  static CRIBLE_INLINE typename V::Int bytes(const std::byte* values) {
    const auto words = V::load(values + kStep / 2 * 64);
    return V::template mask<0x0F0F0F0F>(kStep % 2 == 0 ? words : V::template shift_right<4>(words));
  }
};

// Bytes of step kStep: nibbles from the words after the kHighWords words of further bits, of which kBits are a byte's.
template <class V, int kHighWords, int kBits, int kStep>
CRIBLE_INLINE typename V::Int wide_bytes(const std::byte* values) {
  constexpr int kStepsPerWord = 8 / kHighWords;
  constexpr int kShift = kStep % kStepsPerWord * kBits - 4;  // the further bits belong above the nibble
  constexpr uint32_t kMask = kBits == 1 ? 0x10101010 : 0x30303030;
  const auto words = V::load(values + kHighWords * 64 + kStep / 2 * 64);
  const auto further = V::load(values + kStep / kStepsPerWord * 64);
  const auto bytes = V::template mask<0x0F0F0F0F>(kStep % 2 == 0 ? words : V::template shift_right<4>(words));
  if constexpr (kShift < 0) {
    return V::either(bytes, V::template mask<kMask>(V::template shift_left<-kShift>(further)));
  } else {
    return V::either(bytes, V::template mask<kMask>(V::template shift_right<kShift>(further)));
  }
}

template <class V>
CRIBLE_INLINE PairOfPairs<V> pairs_of_bytes(typename V::Int bytes) {
  return {V::template mask<0x00FF00FF>(bytes), V::template shift_right<8>(bytes)};
}

template <class V>
struct FiveBitSteps : NibbleOrder {
  static constexpr int64_t kPanelMinRows = V::kWidePanelMinRows;
  template <int kStep>
  static CRIBLE_INLINE typename V::Int bytes(const std::byte* values) { return wide_bytes<V, 1, 1, kStep>(values); }
  template <int kStep>
  static CRIBLE_INLINE PairOfPairs<V> step(const std::byte* values) { return pairs_of_bytes<V>(bytes<kStep>(values)); }
};

template <class V>
struct SixBitSteps : NibbleOrder {
  static constexpr int64_t kPanelMinRows = V::kWidePanelMinRows;
  template <int kStep>
  static CRIBLE_INLINE typename V::Int bytes(const std::byte* values) { return wide_bytes<V, 2, 2, kStep>(values); }
  template <int kStep>
  static CRIBLE_INLINE PairOfPairs<V> step(const std::byte* values) { return pairs_of_bytes<V>(bytes<kStep>(values)); }
};

// --- Scales and minima of block j of a unit ---------------------------------------------------------

template <class V>
struct HalfScales {
  static CRIBLE_INLINE typename V::Float scale(const std::byte* unit, int64_t, int) { return V::halves(unit); }
  static CRIBLE_INLINE typename V::Float minimum(const std::byte* unit, int64_t) { return V::halves(unit + 2 * kPackRows); }
};

template <class V, class Layout>
struct SuperBlockScales {
  static CRIBLE_INLINE typename V::Float scale(const std::byte* unit, int64_t j, int) {
    return V::multiply(V::halves(unit), V::unsigned_bytes(unit + Layout::kScalesAt + j * kPackRows));
  }
  static CRIBLE_INLINE typename V::Float minimum(const std::byte* unit, int64_t j) {
    return V::multiply(V::halves(unit + 2 * kPackRows), V::unsigned_bytes(unit + Layout::kMinimaAt + j * kPackRows));
  }
};

template <class V>
struct SignedSubBlockScales {
  static CRIBLE_INLINE typename V::Float scale(const std::byte* unit, int64_t j, int sub) {
    return V::multiply(V::halves(unit), V::signed_bytes(unit + PackedQ6_K::kScalesAt + (2 * j + sub) * kPackRows));
  }
};

// --- The types --------------------------------------------------------------------------------------

template <class V>
struct Q8_0Block : PackedQ8_0, ByteSteps<V>, HalfScales<V> {};
template <class V>
struct Q4_0Block : PackedQ4_0, NibbleSteps<V>, HalfScales<V> {};
template <class V>
struct Q4_1Block : PackedQ4_1, NibbleSteps<V>, HalfScales<V> {};
template <class V>
struct Q5_0Block : PackedQ5_0, FiveBitSteps<V>, HalfScales<V> {};
template <class V>
struct Q5_1Block : PackedQ5_1, FiveBitSteps<V>, HalfScales<V> {};
template <class V>
struct Q4_KBlock : PackedQ4_K, NibbleSteps<V>, SuperBlockScales<V, PackedQ4_K> {};
template <class V>
struct Q5_KBlock : PackedQ5_K, FiveBitSteps<V>, SuperBlockScales<V, PackedQ5_K> {};
template <class V>
struct Q6_KBlock : PackedQ6_K, SixBitSteps<V>, SignedSubBlockScales<V> {};

// Float weights: one k of 16 rows.
template <class V>
struct F32Weights {
  static constexpr int64_t kBytes = 4;
  static CRIBLE_INLINE typename V::Float load(const std::byte* p) { return V::floats(p); }
};
template <class V>
struct F16Weights {
  static constexpr int64_t kBytes = 2;
  static CRIBLE_INLINE typename V::Float load(const std::byte* p) { return V::halves(p); }
};
template <class V>
struct BF16Weights {
  static constexpr int64_t kBytes = 2;
  static CRIBLE_INLINE typename V::Float load(const std::byte* p) { return V::bfloats(p); }
};

}  // namespace crible
