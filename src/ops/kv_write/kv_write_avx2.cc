#include <immintrin.h>

#include "ops/kv_write/kv_write_kernels.h"

namespace crible {
namespace {

__m128i to_half(const float* x) {
  return _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

}  // namespace

void kv_write_head_f16_avx2(const float* k, const float* v, uint16_t* k_out, uint16_t* v_out, int64_t head_size,
                            int64_t block_size) {
  for (int64_t d = 0; d < head_size; d += 8) {
    alignas(16) uint16_t column[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(column), to_half(k + d));
    for (int i = 0; i < 8; ++i) k_out[(d + i) * block_size] = column[i];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(v_out + d), to_half(v + d));
  }
}

}  // namespace crible
