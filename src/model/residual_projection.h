// The matrix by which a block gives its result back to the residual stream: with a bias where the
// checkpoint has one, and with a norm in between where the architecture does (Gemma).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/norm.h"
#include "ops/matmul/matmul.h"

namespace crible {

class ResidualProjection {
 public:
  // name: of the matrix, without ".weight". [rows, columns]
  static Result<ResidualProjection> load(Checkpoint& checkpoint, const std::string& name, int64_t rows,
                                         int64_t columns, std::optional<Norm> norm, Stream& stream);

  int64_t bytes() const;
  int64_t scratch_bytes(int64_t max_rows) const { return matmul_scratch_bytes(max_rows, matrix_); }
  // residual [rows of x, embedding] += norm(matrix · x + bias). `spare` is of the residual's size; used
  // where there is a norm.
  void add(Stream& stream, const float* x, int64_t rows, float* spare, float* residual) const;

 private:
  PackedMatrix matrix_;
  std::vector<float> bias_;  // or empty
  std::optional<Norm> norm_;
};

}  // namespace crible
