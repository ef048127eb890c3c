// The walk of gated_product.h for eight lanes. Included only by files compiled for AVX2 or wider; internal
// linkage, so that no generic code can pick up this copy.
#pragma once

#include <immintrin.h>

#include "ops/gated_product.h"

namespace crible {
namespace {

template <typename Activation>
void gated_rows_by_eight(const GatedProduct& args, int64_t begin, int64_t end, Activation activation) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i tail = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(args.columns % 8)), lane);
  const int64_t whole = args.columns / 8 * 8;
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, _mm256_mul_ps(activation(_mm256_loadu_ps(gate + c)), _mm256_loadu_ps(up + c)));
    }
    if (whole < args.columns) {
      _mm256_maskstore_ps(out + whole, tail, _mm256_mul_ps(activation(_mm256_maskload_ps(gate + whole, tail)),
                                                           _mm256_maskload_ps(up + whole, tail)));
    }
  }
}

}  // namespace
}  // namespace crible
