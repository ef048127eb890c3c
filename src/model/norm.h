// Root mean square normalisation with its weight, as layers own it (ops/rms_norm). Rows are size() floats.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/stream.h"
#include "model/checkpoint.h"
#include "ops/rms_norm/rms_norm.h"

namespace crible {

class Norm {
 public:
  static Result<Norm> load(Checkpoint& checkpoint, const std::string& name, int64_t size, double epsilon);

  int64_t bytes() const { return static_cast<int64_t>(weight_.size() * sizeof(float)); }
  // out[r] = norm(x[r])
  void apply(Stream& stream, const float* x, int64_t rows, float* out) const;
  // out[i] = norm(x[rows[i]])
  void apply_to_rows(Stream& stream, const float* x, std::span<const int32_t> rows, float* out) const;
  // out[r] += norm(x[r])
  void add(Stream& stream, const float* x, int64_t rows, float* out) const;
  // In place on each of `heads` neighbouring vectors of every row of x, whose rows are x_stride apart.
  void apply_to_heads(Stream& stream, float* x, int64_t x_stride, int64_t rows, int64_t heads) const;

 private:
  RmsNormArgs dense(const float* x, int64_t rows, float* out) const;

  std::vector<float> weight_;
  float epsilon_ = 0;
};

}  // namespace crible
