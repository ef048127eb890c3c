// Activations to 16-bit blocks as tile registers read them (amx_tiles.h): of 16 rows, per block the high bytes of all,
// then the low ones, each in the order that the packed weights' bytes have. The values are those of
// quantise_rows_scalar.cc.
#include "ops/matmul/lanes_avx512.h"
#include "ops/matmul/quantise_block_avx512.h"

namespace crible {
namespace {

// For each byte of 16, the element that belongs there: both orders stay within eight.
template <class Order>
struct alignas(16) ByteOrder {
  uint8_t element[16];
  constexpr ByteOrder() : element{} {
    for (int i = 0; i < 16; ++i) {
      element[i] = static_cast<uint8_t>(Order::k_of(i / 4, i % 2) + i % 4 / 2);
    }
  }
};

template <class Order>
void quantise_tile(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  static constexpr ByteOrder<Order> kOrder{};
  const __m256i order = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kOrder.element)));
  const int64_t blocks = columns / kQuantBlock;
  std::byte* first = reinterpret_cast<std::byte*>(q.values);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      alignas(64) int16_t values[kQuantBlock];
      const int64_t at = r * blocks + b;
      quantise_block(x + r * x_stride + b * kQuantBlock, values, q.scales + at, q.sums + at, q.half_sums + 2 * at);
      const __m512i whole = _mm512_load_si512(values);
      const __m256i high = _mm512_cvtepi16_epi8(_mm512_srai_epi16(whole, 8)), low = _mm512_cvtepi16_epi8(whole);
      std::byte* place = first + (b * 2 * kRowTile + r) * kQuantBlock;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), _mm256_shuffle_epi8(high, order));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(place + kRowTile * kQuantBlock), _mm256_shuffle_epi8(low, order));
    }
  }
}

}  // namespace

void quantise_rows_amx_bytes(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  quantise_tile<ByteSteps<Avx512Lanes>>(x, x_stride, rows, columns, q);
}

void quantise_rows_amx_nibbles(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  quantise_tile<NibbleOrder>(x, x_stride, rows, columns, q);
}

}  // namespace crible
