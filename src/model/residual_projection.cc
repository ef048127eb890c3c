#include "model/residual_projection.h"

namespace crible {

Result<ResidualProjection> ResidualProjection::load(Checkpoint& checkpoint, const std::string& name, int64_t rows,
                                                    int64_t columns, std::optional<Norm> norm, Stream& stream) {
  ResidualProjection projection;
  projection.norm_ = std::move(norm);
  CRIBLE_TRY(const MatrixSource source, checkpoint.matrix(name + ".weight", rows, columns));
  CRIBLE_TRY(projection.matrix_, PackedMatrix::pack({&source, 1}, stream));
  if (checkpoint.has(name + ".bias")) {
    CRIBLE_TRY(projection.bias_, checkpoint.vector(name + ".bias", rows));
  }
  return projection;
}

int64_t ResidualProjection::bytes() const {
  return matrix_.bytes() + static_cast<int64_t>(bias_.size() * sizeof(float)) + (norm_ ? norm_->bytes() : 0);
}

void ResidualProjection::add(Stream& stream, const float* x, int64_t rows, float* spare, float* residual) const {
  matmul(stream, {.x = x, .rows = rows, .x_stride = matrix_.columns(), .weight = &matrix_,
                  .out = norm_ ? spare : residual, .out_stride = matrix_.rows(), .accumulate = !norm_,
                  .bias = bias_.empty() ? nullptr : bias_.data()});
  if (norm_) norm_->add(stream, spare, rows, residual);
}

}  // namespace crible
