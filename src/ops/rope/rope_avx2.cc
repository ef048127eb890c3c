#include <immintrin.h>

#include "ops/rope/rope_kernels.h"

namespace crible {
namespace {

// Four neighbouring pairs.
void rotate_interleaved(float* x, const float* cosine, const float* sine) {
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cosine)), twice);
  const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sine)), twice);
  const __m256 v = _mm256_loadu_ps(x);
  const __m256 swapped = _mm256_permute_ps(v, 0xB1);
  _mm256_storeu_ps(x, _mm256_addsub_ps(_mm256_mul_ps(v, c), _mm256_mul_ps(swapped, s)));
}

// Eight pairs, `distance` apart.
void rotate_halves(float* x, int64_t distance, const float* cosine, const float* sine) {
  const __m256 c = _mm256_loadu_ps(cosine), s = _mm256_loadu_ps(sine);
  const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + distance);
  _mm256_storeu_ps(x, _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s)));
  _mm256_storeu_ps(x + distance, _mm256_add_ps(_mm256_mul_ps(b, c), _mm256_mul_ps(a, s)));
}

void rotate_head(const RopeHeads& h, float* x, const float* cosine, const float* sine) {
  const int64_t half = h.rotary_size / 2;
  const int64_t step = h.interleaved ? 2 : 1;
  const int64_t distance = h.interleaved ? 1 : half;
  int64_t i = 0;
  if (h.interleaved) {
    for (; i + 4 <= half; i += 4) rotate_interleaved(x + 2 * i, cosine + i, sine + i);
  } else {
    for (; i + 8 <= half; i += 8) rotate_halves(x + i, half, cosine + i, sine + i);
  }
  for (; i < half; ++i) {
    const float a = x[i * step];
    const float b = x[i * step + distance];
    x[i * step] = a * cosine[i] - b * sine[i];
    x[i * step + distance] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace

void rope_token_avx2(const RopeHeads& h, float* x, const float* cosine, const float* sine) {
  for (int64_t head = 0; head < h.heads; ++head) rotate_head(h, x + head * h.head_size, cosine, sine);
}

}  // namespace crible
