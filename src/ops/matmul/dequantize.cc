#include "ops/matmul/dequantize.h"

#include <cstring>

#include "base/check.h"
#include "ops/half.h"
#include "ops/matmul/block_formats.h"

namespace crible {
namespace {

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

int nibble(const uint8_t* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }
int fifth_bit(const uint8_t* high, int i) { return (high[i / 8] >> (i % 8) & 1) << 4; }

void block_values(const BlockQ8_0& block, float* out) {
  const float scale = block.scale.value();
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(block.values[i]);
}

void block_values(const BlockQ4_0& block, float* out) {
  const float scale = block.scale.value();
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(nibble(block.nibbles, i) - 8);
}

void block_values(const BlockQ4_1& block, float* out) {
  const float scale = block.scale.value(), minimum = block.minimum.value();
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(nibble(block.nibbles, i)) + minimum;
}

void block_values(const BlockQ5_0& block, float* out) {
  const float scale = block.scale.value();
  for (int i = 0; i < 32; ++i) {
    out[i] = scale * static_cast<float>((nibble(block.nibbles, i) | fifth_bit(block.high, i)) - 16);
  }
}

void block_values(const BlockQ5_1& block, float* out) {
  const float scale = block.scale.value(), minimum = block.minimum.value();
  for (int i = 0; i < 32; ++i) {
    out[i] = scale * static_cast<float>(nibble(block.nibbles, i) | fifth_bit(block.high, i)) + minimum;
  }
}

// Q4_K, and with the fifth bits Q5_K.
template <typename Block, typename Quant>
void super_block_values(const Block& block, float* out, Quant quant) {
  for (int s = 0; s < 8; ++s, out += 32) {
    const float scale = block.scale.value() * static_cast<float>(sub_block_scale(block.scales, s));
    const float minimum = block.minimum.value() * static_cast<float>(sub_block_minimum(block.scales, s));
    for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(quant(s, i)) - minimum;
  }
}

void block_values(const BlockQ4_K& block, float* out) {
  super_block_values(block, out, [&](int s, int i) { return block.nibbles[s / 2 * 32 + i] >> (s % 2 * 4) & 15; });
}

void block_values(const BlockQ5_K& block, float* out) {
  super_block_values(block, out, [&](int s, int i) {
    return (block.nibbles[s / 2 * 32 + i] >> (s % 2 * 4) & 15) | (block.high[i] >> s & 1) << 4;
  });
}

void block_values(const BlockQ6_K& block, float* out) {
  for (int k = 0; k < 256; ++k) {
    const int half = k / 128, quarter = k % 128 / 32, i = k % 32;
    const int low = block.nibbles[64 * half + quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
    const int high = block.high[32 * half + i] >> (2 * quarter) & 3;
    const float scale = block.scale.value() * static_cast<float>(block.scales[k / 16]);
    out[k] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

template <typename Block>
void all_blocks(const std::byte* blocks, int64_t n, int64_t block_size, float* out) {
  for (int64_t i = 0; i < n; i += block_size, blocks += sizeof(Block)) {
    block_values(*reinterpret_cast<const Block*>(blocks), out + i);
  }
}

}  // namespace

void dequantize(DType dtype, const std::byte* blocks, int64_t n, float* out) {
  const int64_t size = dtype_block_size(dtype);
  CHECK(n % size == 0, "{} elements of {}, not whole blocks of {}", n, dtype_name(dtype), size);
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, blocks, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) out[i] = half_to_float(load_u16(blocks + 2 * i));
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) out[i] = bfloat16_to_float(load_u16(blocks + 2 * i));
      return;
    case DType::kQ8_0: return all_blocks<BlockQ8_0>(blocks, n, size, out);
    case DType::kQ4_0: return all_blocks<BlockQ4_0>(blocks, n, size, out);
    case DType::kQ4_1: return all_blocks<BlockQ4_1>(blocks, n, size, out);
    case DType::kQ5_0: return all_blocks<BlockQ5_0>(blocks, n, size, out);
    case DType::kQ5_1: return all_blocks<BlockQ5_1>(blocks, n, size, out);
    case DType::kQ4_K: return all_blocks<BlockQ4_K>(blocks, n, size, out);
    case DType::kQ5_K: return all_blocks<BlockQ5_K>(blocks, n, size, out);
    case DType::kQ6_K: return all_blocks<BlockQ6_K>(blocks, n, size, out);
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

}  // namespace crible
