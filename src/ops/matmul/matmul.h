// out = x · Wᵀ (+ out when accumulate): x [rows, K] float32, W [N, K] packed, out [rows, N] float32.
// The CPU version quantises x per block of 32 once per call where W is quantised. Row r of out
// depends on row r of x and on W alone, bit for bit: not on the other rows, their number or the
// thread count (the engine's results must not depend on scheduling).
// Moves packed_bytes(W) + 4·rows·(K + N) bytes; computes 2·rows·N·K operations.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/buffer.h"
#include "device/dtype.h"
#include "device/stream.h"

namespace crible {

// One source matrix in its file layout: rows of dtype_row_bytes(dtype, columns), row-major.
struct MatrixSource {
  DType dtype;
  int64_t rows;
  int64_t columns;
  const std::byte* data;
};

// A weight matrix repacked for the widest instructions of this machine. Owns its memory. Several sources
// of equal width and type may be stacked row-wise (fused QKV, fused gate/up). Immutable once packed.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  static Result<PackedMatrix> pack(std::span<const MatrixSource> sources, Stream& stream);

  DType dtype() const { return dtype_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t bytes() const { return buffer_.bytes(); }
  const std::byte* data() const { return buffer_.as<std::byte>(); }
  // Bytes pack() will take for these sources, for the memory plan.
  static int64_t packed_bytes(DType dtype, int64_t rows, int64_t columns);
  // Row r as float32 [columns] (embedding look-up from a tied matrix).
  void dequantize_row(int64_t row, float* out) const;

 private:
  DType dtype_ = DType::kF32;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  Buffer buffer_;
};

struct MatmulArgs {
  const float* x;
  int64_t rows;
  int64_t x_stride;  // floats between rows of x
  const PackedMatrix* weight;
  float* out;
  int64_t out_stride;  // floats between rows of out
  bool accumulate = false;  // add to out: the residual connection
  const float* bias = nullptr;  // [N] or null
};

// Scratch the stream must have reserved for a call with these sizes.
int64_t matmul_scratch_bytes(int64_t rows, const PackedMatrix& weight);
int64_t matmul_scratch_bytes(int64_t rows, DType dtype, int64_t out_features, int64_t in_features);

void matmul(Stream& stream, const MatmulArgs& args);

}  // namespace crible
