// Several weight matrices that multiply the same input, as one: query, key and value, or gate and up.
// Neighbours of equal type are packed into one matrix and cost one operation; where a file mixes
// types, each run of equal type is one. Immutable once packed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/stream.h"
#include "ops/matmul/matmul.h"

namespace crible {

class StackedMatrix {
 public:
  // All sources have equal width. Their rows follow each other in the output.
  static Result<StackedMatrix> pack(std::span<const MatrixSource> sources, Stream& stream);

  int64_t rows() const { return rows_; }
  int64_t bytes() const;
  int64_t scratch_bytes(int64_t max_rows) const;
  // out[:, 0 .. rows()) = x · Wᵀ for `tokens` rows of x.
  void multiply(Stream& stream, const float* x, int64_t x_stride, int64_t tokens, float* out,
                int64_t out_stride) const;

 private:
  std::vector<PackedMatrix> parts_;
  int64_t rows_ = 0;
};

}  // namespace crible
