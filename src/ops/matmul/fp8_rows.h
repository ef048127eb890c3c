// Rows of activations in FP8 E4M3, as the FP8 product takes them: value / scale, the scale being the largest
// magnitude of a row, or of 128 columns of it, over 448 (1 for zeros). Written by quantize_rows, or by the
// operation that makes the rows (rms_norm, silu_mul), which then writes nothing else.
#pragma once

#include <cstdint>

namespace crible::cuda {

inline constexpr int64_t kFp8Block = 128;

struct Fp8Rows {
  uint8_t* data = nullptr;  // [rows, columns]; null: not wanted
  float* scale = nullptr;   // [rows]; blocks: [columns / 128][fp8_padded_rows(rows)]
  bool blocks = false;
};

// Rows that the product with block scales computes: cuBLASLt wants whole fours. x and out have room for them;
// what stands there is not used.
constexpr int64_t fp8_padded_rows(int64_t rows) {
  return (rows + 3) / 4 * 4;
}

// Floats between the scales of two rows of blocks of a weight matrix: what cuBLASLt wants.
constexpr int64_t fp8_scale_stride(int64_t columns) {
  return (columns / kFp8Block + 3) / 4 * 4;
}

}  // namespace crible::cuda
