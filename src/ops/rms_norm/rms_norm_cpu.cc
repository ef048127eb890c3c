#include <cmath>

#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm/rms_norm_kernels.h"
#include "ops/row_chunks.h"

namespace crible {

namespace {

// One vector.
void norm_vector(const RmsNormArgs& args, const float* x, float* out) {
  float partial[8] = {};
  for (int64_t c = 0; c < args.columns; ++c) partial[c % 8] = std::fma(x[c], x[c], partial[c % 8]);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
  }
  const float mean = partial[0] / static_cast<float>(args.columns);
  const float scale = 1.0f / std::sqrt(mean + args.epsilon);
  for (int64_t c = 0; c < args.columns; ++c) {
    const float value = x[c] * scale * args.weight[c];
    out[c] = args.accumulate ? out[c] + value : value;
  }
}

}  // namespace

void rms_norm_rows_scalar(const RmsNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + (args.row_index != nullptr ? args.row_index[r] : r) * args.x_stride;
    float* out = args.out + r * args.out_stride;
    for (int64_t g = 0; g < args.groups; ++g) norm_vector(args, x + g * args.columns, out + g * args.columns);
  }
}

void rms_norm(Stream& stream, const RmsNormArgs& args) {
  auto* kernel = &rms_norm_rows_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &rms_norm_rows_avx2;
#endif
  for_row_chunks(stream, args.rows, args.groups * args.columns,
                 [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace crible
