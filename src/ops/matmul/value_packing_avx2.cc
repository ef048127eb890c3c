// Packing 32 elements of 16 rows with 128-bit shuffles, four rows at a time: each row's words in one register, then a
// transposition.
#include <immintrin.h>

#include "ops/matmul/packed_layout.h"
#include "ops/matmul/value_packing.h"

namespace crible {
namespace {

__m128i load(const std::byte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

// a, b, c, d: four words each of rows lane to lane + 3.
void store_four_rows(__m128i a, __m128i b, __m128i c, __m128i d, int64_t lane, std::byte* words) {
  const __m128i ab_low = _mm_unpacklo_epi32(a, b), ab_high = _mm_unpackhi_epi32(a, b);
  const __m128i cd_low = _mm_unpacklo_epi32(c, d), cd_high = _mm_unpackhi_epi32(c, d);
  const auto store = [&](int64_t index, __m128i value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words + (index * kPackRows + lane) * 4), value);
  };
  store(0, _mm_unpacklo_epi64(ab_low, cd_low));
  store(1, _mm_unpackhi_epi64(ab_low, cd_low));
  store(2, _mm_unpacklo_epi64(ab_high, cd_high));
  store(3, _mm_unpackhi_epi64(ab_high, cd_high));
}

template <typename WordsOf>
void pack_rows(FullGroup rows, std::byte* words, WordsOf words_of) {
  for (int64_t lane = 0; lane < kPackRows; lane += 4) {
    store_four_rows(words_of(rows[lane]), words_of(rows[lane + 1]), words_of(rows[lane + 2]), words_of(rows[lane + 3]), lane,
                    words);
  }
}

void pack_four_floats(FullGroup rows, int64_t at, std::byte* words) {
  pack_rows(rows, words, [&](const std::byte* row) { return load(row + at); });
}

// Eight rows × eight elements at a time, in three rounds of interleaving.
void pack_eight_halves(FullGroup rows, int64_t at, std::byte* words) {
  for (int64_t lane = 0; lane < kPackRows; lane += 8) {
    __m128i pairs[8], fours[8];
    for (int i = 0; i < 4; ++i) {  // rows 2i and 2i + 1
      const __m128i a = load(rows[lane + 2 * i] + at), b = load(rows[lane + 2 * i + 1] + at);
      pairs[i] = _mm_unpacklo_epi16(a, b);      // elements 0 to 3
      pairs[4 + i] = _mm_unpackhi_epi16(a, b);  // elements 4 to 7
    }
    for (int h = 0; h < 8; h += 4) {
      for (int i = 0; i < 2; ++i) {  // rows 4i to 4i + 3
        fours[h + i] = _mm_unpacklo_epi32(pairs[h + 2 * i], pairs[h + 2 * i + 1]);
        fours[h + 2 + i] = _mm_unpackhi_epi32(pairs[h + 2 * i], pairs[h + 2 * i + 1]);
      }
    }
    for (int64_t k = 0; k < 8; k += 2) {  // elements k and k + 1
      std::byte* out = words + (k * kPackRows + lane) * 2;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_unpacklo_epi64(fours[k], fours[k + 1]));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + kPackRows * 2), _mm_unpackhi_epi64(fours[k], fours[k + 1]));
    }
  }
}

// Elements 0 to 15 and 16 to 31, one a byte, into four words: per 8 elements the bytes 0, 4, 1, 5 each joined with
// that of two further, which `place` multiplies to its bits.
__m128i join(__m128i first, __m128i second, __m128i place) {
  const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return _mm_packus_epi16(_mm_maddubs_epi16(_mm_shuffle_epi8(first, order), place),
                          _mm_maddubs_epi16(_mm_shuffle_epi8(second, order), place));
}

__m128i join_nibbles(__m128i first, __m128i second) {
  const __m128i mask = _mm_set1_epi8(0xF);
  return join(_mm_and_si128(first, mask), _mm_and_si128(second, mask), _mm_set1_epi16(0x1001));
}

void pack_bytes(FullGroup rows, int64_t at, std::byte* words) {
  const __m128i order = _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  for (int64_t half = 0; half < 2; ++half) {
    pack_rows(rows, words + half * 4 * kPackRows * 4,
              [&](const std::byte* row) { return _mm_shuffle_epi8(load(row + at + 16 * half), order); });
  }
}

void pack_block_nibbles(FullGroup rows, int64_t at, std::byte* words) {
  pack_rows(rows, words, [&](const std::byte* row) {
    const __m128i bytes = load(row + at);
    return join_nibbles(bytes, _mm_srli_epi16(bytes, 4));
  });
}

void pack_row_nibbles(FullGroup rows, int64_t at, int shift, std::byte* words) {
  const __m128i count = _mm_cvtsi32_si128(shift);
  pack_rows(rows, words, [&](const std::byte* row) {
    return join_nibbles(_mm_srl_epi16(load(row + at), count), _mm_srl_epi16(load(row + at + 16), count));
  });
}

// Each nibble of the two words comes from one of the four words that join() gives for two-bit elements.
void pack_two_bits(FullGroup rows, int64_t at, int shift, std::byte* words) {
  const __m128i count = _mm_cvtsi32_si128(shift), mask = _mm_set1_epi8(3);
  alignas(16) std::byte four[4 * kPackRows * 4];
  pack_rows(rows, four, [&](const std::byte* row) {
    return join(_mm_and_si128(_mm_srl_epi16(load(row + at), count), mask),
                _mm_and_si128(_mm_srl_epi16(load(row + at + 16), count), mask), _mm_set1_epi16(0x0401));
  });
  for (int64_t word = 0; word < 2; ++word) {
    for (int64_t i = 0; i < kPackRows * 4; i += 16) {
      const std::byte* low = four + word * 2 * kPackRows * 4 + i;
      const __m128i both = _mm_or_si128(load(low), _mm_slli_epi32(load(low + kPackRows * 4), 4));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(words + word * kPackRows * 4 + i), both);
    }
  }
}

}  // namespace

const ValuePackers& value_packers_avx2() {
  static constexpr ValuePackers packers = {pack_four_floats, pack_eight_halves, pack_bytes, pack_block_nibbles,
                                           pack_row_nibbles, pack_two_bits};
  return packers;
}

}  // namespace crible
