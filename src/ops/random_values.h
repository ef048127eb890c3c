// Reproducible inputs for the ops' tests and benches: one seed, one sequence, on every machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device/dtype.h"
#include "ops/half.h"

namespace crible {

// SplitMix64 (Steele, Lea, Flood 2014).
class RandomValues {
 public:
  explicit RandomValues(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  int64_t integer(int64_t low, int64_t high) {  // both included
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  float normal() {  // Box-Muller
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return static_cast<float>(radius * std::cos(6.283185307179586 * uniform()));
  }
  std::vector<float> normals(int64_t n, float scale = 1.0f) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = scale * normal();
    return values;
  }

  // Rows of a matrix in its file layout, with values of about unit variance / sqrt(columns).
  std::vector<std::byte> matrix(DType dtype, int64_t rows, int64_t columns) {
    std::vector<std::byte> data(static_cast<size_t>(rows * dtype_row_bytes(dtype, columns)));
    const int64_t blocks = rows * columns / dtype_block_size(dtype);
    const float scale = 1.0f / std::sqrt(static_cast<float>(columns));
    std::byte* p = data.data();
    for (int64_t b = 0; b < blocks; ++b, p += dtype_block_bytes(dtype)) block(dtype, scale, p);
    return data;
  }

 private:
  static void put_half(std::byte* p, float value) {
    const uint16_t h = float_to_half(value);
    std::memcpy(p, &h, sizeof h);
  }
  void fill_bytes(std::byte* p, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = static_cast<std::byte>(bits());
  }
  // Sub-block scales and minima are 6-bit integers: about 32 in the middle.
  void super_block(std::byte* p, int64_t rest, float scale) {
    put_half(p, scale / 32.0f);
    put_half(p + 2, 8.0f * scale / 32.0f * static_cast<float>(uniform()));
    fill_bytes(p + 4, rest);
  }
  void block(DType dtype, float scale, std::byte* p) {
    const float wobble = scale * (0.5f + static_cast<float>(uniform()));
    switch (dtype) {
      case DType::kF32: {
        const float value = scale * normal();
        std::memcpy(p, &value, sizeof value);
        return;
      }
      case DType::kF16: put_half(p, scale * normal()); return;
      case DType::kBF16: {
        const float value = scale * normal();
        std::memcpy(p, reinterpret_cast<const std::byte*>(&value) + 2, 2);
        return;
      }
      case DType::kQ8_0:
        put_half(p, wobble / 64.0f);
        fill_bytes(p + 2, 32);
        for (int i = 0; i < 32; ++i) {  // the format never holds -128
          if (p[2 + i] == std::byte{0x80}) p[2 + i] = std::byte{0x81};
        }
        return;
      case DType::kQ4_0:
        put_half(p, wobble / 4.0f);
        fill_bytes(p + 2, 16);
        return;
      case DType::kQ4_1:
        put_half(p, wobble / 4.0f);
        put_half(p + 2, -2.0f * wobble * static_cast<float>(uniform()));
        fill_bytes(p + 4, 16);
        return;
      case DType::kQ5_0:
        put_half(p, wobble / 8.0f);
        fill_bytes(p + 2, 20);
        return;
      case DType::kQ5_1:
        put_half(p, wobble / 8.0f);
        put_half(p + 2, -4.0f * wobble * static_cast<float>(uniform()));
        fill_bytes(p + 4, 20);
        return;
      case DType::kQ4_K: return super_block(p, 12 + 128, wobble / 4.0f);
      case DType::kQ5_K: return super_block(p, 12 + 32 + 128, wobble / 8.0f);
      case DType::kQ6_K:
        fill_bytes(p, 208);
        put_half(p + 208, wobble / 16.0f / 64.0f);
        return;
      default: return;
    }
  }

  uint64_t state_;
};

}  // namespace crible
