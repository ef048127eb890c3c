#include "model/norm.h"

#include "ops/rms_norm/rms_norm.h"

namespace crible {

Result<Norm> Norm::load(Checkpoint& checkpoint, const std::string& name, int64_t size, double epsilon) {
  Norm norm;
  CRIBLE_TRY(norm.weight_, checkpoint.vector(name, size));
  norm.epsilon_ = static_cast<float>(epsilon);
  return norm;
}

RmsNormArgs Norm::dense(const float* x, int64_t rows, float* out) const {
  const auto size = static_cast<int64_t>(weight_.size());
  return {.x = x, .x_stride = size, .out = out, .out_stride = size, .weight = weight_.data(), .rows = rows,
          .columns = size, .epsilon = epsilon_};
}

void Norm::apply(Stream& stream, const float* x, int64_t rows, float* out) const {
  rms_norm(stream, dense(x, rows, out));
}

void Norm::apply_to_rows(Stream& stream, const float* x, std::span<const int32_t> rows, float* out) const {
  RmsNormArgs args = dense(x, static_cast<int64_t>(rows.size()), out);
  args.row_index = rows.data();
  rms_norm(stream, args);
}

void Norm::add(Stream& stream, const float* x, int64_t rows, float* out) const {
  RmsNormArgs args = dense(x, rows, out);
  args.accumulate = true;
  rms_norm(stream, args);
}

void Norm::apply_to_heads(Stream& stream, float* x, int64_t x_stride, int64_t rows, int64_t heads) const {
  const auto size = static_cast<int64_t>(weight_.size());
  rms_norm(stream, {.x = x, .x_stride = x_stride, .out = x, .out_stride = x_stride, .weight = weight_.data(),
                    .rows = rows, .columns = size, .epsilon = epsilon_, .groups = heads});
}

}  // namespace crible
