// Several weight matrices that multiply the same input, as one: query, key and value, or gate and up.
// Neighbours of equal type are packed into one matrix and cost one operation; where a file mixes
// types, each run of equal type is one. Immutable once packed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/stream.h"
#include "model/checkpoint.h"
#include "ops/matmul/matmul.h"

namespace crible {

class StackedMatrix {
 public:
  struct Part {
    std::string name;  // of its tensors, without ".weight" and ".bias"
    int64_t rows;
  };
  // All parts have equal width; their rows follow each other in the output. Takes biases where the
  // checkpoint has them; parts without one beside parts with one have a bias of zero.
  static Result<StackedMatrix> load(Checkpoint& checkpoint, std::span<const Part> parts, int64_t columns,
                                    Stream& stream);

  int64_t rows() const { return rows_; }
  int64_t bytes() const;
  int64_t scratch_bytes(int64_t max_rows) const;
  // out[:, 0 .. rows()) = x · Wᵀ + bias for `tokens` rows of x, each columns() floats.
  void multiply(Stream& stream, const float* x, int64_t tokens, float* out) const;

 private:
  std::vector<PackedMatrix> parts_;
  std::vector<float> bias_;  // [rows], or empty
  int64_t rows_ = 0;
};

}  // namespace crible
