#include <immintrin.h>

#include "ops/exponential_avx2.h"
#include "ops/gelu_mul/gelu_mul.h"
#include "ops/gelu_mul/gelu_mul_kernels.h"

namespace crible {
namespace {

__m256 gelu_mul_lanes(__m256 gate, __m256 up) {
  const __m256 inner =
      _mm256_fmadd_ps(_mm256_set1_ps(kGeluCubic), _mm256_mul_ps(gate, gate), _mm256_set1_ps(kGeluLinear));
  const __m256 minus_y = _mm256_xor_ps(_mm256_mul_ps(gate, inner), _mm256_set1_ps(-0.0f));
  const __m256 denominator = _mm256_add_ps(_mm256_set1_ps(1.0f), exponential(minus_y));
  return _mm256_mul_ps(_mm256_div_ps(gate, denominator), up);
}

}  // namespace

void gelu_mul_rows_avx2(const GeluMulArgs& args, int64_t begin, int64_t end) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i tail = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(args.columns % 8)), lane);
  const int64_t whole = args.columns / 8 * 8;
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, gelu_mul_lanes(_mm256_loadu_ps(gate + c), _mm256_loadu_ps(up + c)));
    }
    if (whole < args.columns) {
      _mm256_maskstore_ps(out + whole, tail, gelu_mul_lanes(_mm256_maskload_ps(gate + whole, tail),
                                                            _mm256_maskload_ps(up + whole, tail)));
    }
  }
}

}  // namespace crible
