#include "model/stacked_matrix.h"

#include <algorithm>

namespace crible {

Result<StackedMatrix> StackedMatrix::load(Checkpoint& checkpoint, std::span<const Part> parts, int64_t columns,
                                          Stream& stream) {
  StackedMatrix stacked;
  std::vector<MatrixSource> sources;
  bool biased = false;
  for (const Part& part : parts) {
    CRIBLE_TRY(sources.emplace_back(), checkpoint.matrix(part.name + ".weight", part.rows, columns));
    stacked.rows_ += part.rows;
    std::vector<float> bias(static_cast<size_t>(part.rows), 0.0f);
    if (checkpoint.has(part.name + ".bias")) {
      biased = true;
      CRIBLE_TRY(bias, checkpoint.vector(part.name + ".bias", part.rows));
    }
    stacked.bias_.insert(stacked.bias_.end(), bias.begin(), bias.end());
  }
  if (!biased) stacked.bias_.clear();
  for (std::span<const MatrixSource> rest = sources; !rest.empty();) {
    size_t run = 1;
    while (run < rest.size() && rest[run].dtype == rest[0].dtype) ++run;
    CRIBLE_TRY(stacked.parts_.emplace_back(), PackedMatrix::pack(rest.first(run), stream));
    rest = rest.subspan(run);
  }
  return stacked;
}

int64_t StackedMatrix::bytes() const {
  int64_t bytes = static_cast<int64_t>(bias_.size() * sizeof(float));
  for (const PackedMatrix& part : parts_) bytes += part.bytes();
  return bytes;
}

int64_t StackedMatrix::scratch_bytes(int64_t max_rows) const {
  int64_t bytes = 0;
  for (const PackedMatrix& part : parts_) bytes = std::max(bytes, matmul_scratch_bytes(max_rows, part));
  return bytes;
}

void StackedMatrix::multiply(Stream& stream, const float* x, int64_t tokens, float* out) const {
  int64_t first = 0;
  for (const PackedMatrix& part : parts_) {
    matmul(stream, {.x = x, .rows = tokens, .x_stride = part.columns(), .weight = &part, .out = out + first,
                    .out_stride = rows_, .bias = bias_.empty() ? nullptr : bias_.data() + first});
    first += part.rows();
  }
}

}  // namespace crible
