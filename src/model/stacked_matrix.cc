#include "model/stacked_matrix.h"

#include <algorithm>

namespace crible {

Result<StackedMatrix> StackedMatrix::pack(std::span<const MatrixSource> sources, Stream& stream) {
  StackedMatrix stacked;
  while (!sources.empty()) {
    size_t run = 1;
    while (run < sources.size() && sources[run].dtype == sources[0].dtype) ++run;
    CRIBLE_TRY(PackedMatrix part, PackedMatrix::pack(sources.first(run), stream));
    stacked.rows_ += part.rows();
    stacked.parts_.push_back(std::move(part));
    sources = sources.subspan(run);
  }
  return stacked;
}

int64_t StackedMatrix::bytes() const {
  int64_t bytes = 0;
  for (const PackedMatrix& part : parts_) bytes += part.bytes();
  return bytes;
}

int64_t StackedMatrix::scratch_bytes(int64_t max_rows) const {
  int64_t bytes = 0;
  for (const PackedMatrix& part : parts_) bytes = std::max(bytes, matmul_scratch_bytes(max_rows, part));
  return bytes;
}

void StackedMatrix::multiply(Stream& stream, const float* x, int64_t x_stride, int64_t tokens, float* out,
                             int64_t out_stride) const {
  for (const PackedMatrix& part : parts_) {
    matmul(stream, {.x = x, .rows = tokens, .x_stride = x_stride, .weight = &part, .out = out,
                    .out_stride = out_stride});
    out += part.rows();
  }
}

}  // namespace crible
