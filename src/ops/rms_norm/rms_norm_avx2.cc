#include <immintrin.h>

#include "ops/rms_norm/rms_norm.h"
#include "ops/rms_norm/rms_norm_kernels.h"

namespace crible {

namespace {

// One vector.
void norm_vector(const RmsNormArgs& args, const float* x, float* out) {
  const int64_t whole = args.columns / 8 * 8;
  __m256 sum = _mm256_setzero_ps();
  for (int64_t c = 0; c < whole; c += 8) {
    const __m256 v = _mm256_loadu_ps(x + c);
    sum = _mm256_fmadd_ps(v, v, sum);
  }
  alignas(32) float partial[8];
  _mm256_store_ps(partial, sum);
  for (int64_t c = whole; c < args.columns; ++c) partial[c % 8] = __builtin_fmaf(x[c], x[c], partial[c % 8]);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
  }
  const float mean = partial[0] / static_cast<float>(args.columns);
  const float scale = 1.0f / __builtin_sqrtf(mean + args.epsilon);
  const __m256 scales = _mm256_set1_ps(scale);
  for (int64_t c = 0; c < whole; c += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + c), scales);
    __m256 value = _mm256_mul_ps(scaled, _mm256_loadu_ps(args.weight + c));
    if (args.accumulate) value = _mm256_add_ps(_mm256_loadu_ps(out + c), value);
    _mm256_storeu_ps(out + c, value);
  }
  for (int64_t c = whole; c < args.columns; ++c) {
    const float value = x[c] * scale * args.weight[c];
    out[c] = args.accumulate ? out[c] + value : value;
  }
}

}  // namespace

void rms_norm_rows_avx2(const RmsNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + (args.row_index != nullptr ? args.row_index[r] : r) * args.x_stride;
    float* out = args.out + r * args.out_stride;
    for (int64_t g = 0; g < args.groups; ++g) norm_vector(args, x + g * args.columns, out + g * args.columns);
  }
}

}  // namespace crible
