#include <immintrin.h>

#include "ops/exponential_avx2.h"
#include "ops/silu_mul/silu_mul.h"
#include "ops/silu_mul/silu_mul_kernels.h"

namespace crible {
namespace {

__m256 silu_mul_lanes(__m256 gate, __m256 up) {
  const __m256 denominator =
      _mm256_add_ps(_mm256_set1_ps(1.0f), exponential(_mm256_xor_ps(gate, _mm256_set1_ps(-0.0f))));
  return _mm256_mul_ps(_mm256_div_ps(gate, denominator), up);
}

}  // namespace

void silu_mul_rows_avx2(const SiluMulArgs& args, int64_t begin, int64_t end) {
  const int64_t whole = args.columns / 8 * 8;
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, silu_mul_lanes(_mm256_loadu_ps(gate + c), _mm256_loadu_ps(up + c)));
    }
    if (whole < args.columns) {
      alignas(32) float tail[3][8] = {};
      for (int64_t c = whole; c < args.columns; ++c) {
        tail[0][c - whole] = gate[c];
        tail[1][c - whole] = up[c];
      }
      _mm256_store_ps(tail[2], silu_mul_lanes(_mm256_load_ps(tail[0]), _mm256_load_ps(tail[1])));
      for (int64_t c = whole; c < args.columns; ++c) out[c] = tail[2][c - whole];
    }
  }
}

}  // namespace crible
