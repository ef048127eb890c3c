#include <immintrin.h>

#include "ops/exponential_avx2.h"
#include "ops/sample/sample_kernels.h"

namespace crible {
namespace {

LogitSummary summarise(const float* logits, int64_t n) {
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  __m256 largest = _mm256_set1_ps(-__builtin_inff());
  __m256 sound = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(logits + i);
    largest = _mm256_max_ps(largest, x);
    sound = _mm256_and_ps(sound, _mm256_cmp_ps(x, infinity, _CMP_LT_OQ));
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, largest);
  LogitSummary s = {-__builtin_inff(), 0, _mm256_movemask_ps(sound) != 0xFF};
  for (float lane : lanes) s.maximum = lane > s.maximum ? lane : s.maximum;
  for (; i < n; ++i) {
    s.faulty |= !(logits[i] < __builtin_inff());
    s.maximum = logits[i] > s.maximum ? logits[i] : s.maximum;
  }
  if (s.faulty) return s;
  // A second pass for the place: it ends at the first hit.
  const __m256 maximum = _mm256_set1_ps(s.maximum);
  for (i = 0; i + 8 <= n; i += 8) {
    const int hits = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(logits + i), maximum, _CMP_EQ_OQ));
    if (hits != 0) {
      s.argmax = static_cast<TokenId>(i + __builtin_ctz(static_cast<unsigned>(hits)));
      return s;
    }
  }
  while (logits[i] != s.maximum) ++i;
  s.argmax = static_cast<TokenId>(i);
  return s;
}

// Of eight partial sums, added pairwise 4, 2, 1 apart.
double sum_of(__m256d low, __m256d high) {
  const __m256d four = _mm256_add_pd(low, high);
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

// Lanes that hold one of the `count` elements left; all for 8 or more.
__m256i lanes_present(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count < 8 ? static_cast<int>(count) : 8), lane);
}

// Adds `count` (1 to 8) exponentials to the partial sums.
void weigh_lanes(const float* logits, int count, __m256 maximum, __m256 temperature, float* weights, __m256d* low,
                 __m256d* high) {
  __m256 x;
  const __m256i present = lanes_present(count);
  x = count == 8 ? _mm256_loadu_ps(logits) : _mm256_maskload_ps(logits, present);
  __m256 w = exponential(_mm256_div_ps(_mm256_sub_ps(x, maximum), temperature));
  if (count != 8) w = _mm256_and_ps(w, _mm256_castsi256_ps(present));
  if (weights != nullptr) {
    if (count == 8) {
      _mm256_storeu_ps(weights, w);
    } else {
      _mm256_maskstore_ps(weights, present, w);
    }
  }
  *low = _mm256_add_pd(*low, _mm256_cvtps_pd(_mm256_castps256_ps128(w)));
  *high = _mm256_add_pd(*high, _mm256_cvtps_pd(_mm256_extractf128_ps(w, 1)));
}

void weigh(const float* logits, int64_t n, float maximum, float temperature, float* weights, double* block_sums) {
  const __m256 m = _mm256_set1_ps(maximum), t = _mm256_set1_ps(temperature);
  for (int64_t begin = 0; begin < n; begin += kSampleBlock) {
    __m256d low = _mm256_setzero_pd(), high = low;
    const int64_t end = begin + kSampleBlock < n ? begin + kSampleBlock : n;
    for (int64_t i = begin; i < end; i += 8) {
      const int count = end - i < 8 ? static_cast<int>(end - i) : 8;
      weigh_lanes(logits + i, count, m, t, weights == nullptr ? nullptr : weights + i, &low, &high);
    }
    block_sums[begin / kSampleBlock] = sum_of(low, high);
  }
}

__m256 within(__m256 x, __m256 low, __m256 high) {
  return _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GE_OQ), _mm256_cmp_ps(x, high, _CMP_LE_OQ));
}

int64_t collect(const float* logits, int64_t n, float low, float high, Candidate* out) {
  const __m256 lowest = _mm256_set1_ps(low), highest = _mm256_set1_ps(high);
  int64_t count = 0;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    int hits = _mm256_movemask_ps(within(_mm256_loadu_ps(logits + i), lowest, highest));
    for (; hits != 0; hits &= hits - 1) {
      const int64_t at = i + __builtin_ctz(static_cast<unsigned>(hits));
      out[count++] = {logits[at], static_cast<TokenId>(at), 0.0f};
    }
  }
  for (; i < n; ++i) {
    if (logits[i] >= low && logits[i] <= high) out[count++] = {logits[i], static_cast<TokenId>(i), 0.0f};
  }
  return count;
}

double weight_between(const float* logits, const float* weights, int64_t n, float low, float high) {
  const __m256 lowest = _mm256_set1_ps(low), highest = _mm256_set1_ps(high);
  __m256d first = _mm256_setzero_pd(), second = first;
  for (int64_t i = 0; i < n; i += 8) {
    __m256 x, w;
    if (n - i >= 8) {
      x = _mm256_loadu_ps(logits + i);
      w = _mm256_loadu_ps(weights + i);
    } else {
      const __m256i present = lanes_present(n - i);
      x = _mm256_maskload_ps(logits + i, present);
      w = _mm256_maskload_ps(weights + i, present);  // absent ones weigh 0
    }
    w = _mm256_and_ps(w, within(x, lowest, highest));
    first = _mm256_add_pd(first, _mm256_cvtps_pd(_mm256_castps256_ps128(w)));
    second = _mm256_add_pd(second, _mm256_cvtps_pd(_mm256_extractf128_ps(w, 1)));
  }
  return sum_of(first, second);
}

double moment(const float* logits, const float* weights, int64_t n, float maximum) {
  const __m256d m = _mm256_set1_pd(static_cast<double>(maximum));
  const auto product = [m](__m128 weight, __m128 logit) {
    const __m256d w = _mm256_cvtps_pd(weight);
    const __m256d off = _mm256_sub_pd(_mm256_cvtps_pd(logit), m);
    const __m256d weightless = _mm256_cmp_pd(w, _mm256_setzero_pd(), _CMP_EQ_OQ);  // the logit may be -infinity
    return _mm256_andnot_pd(weightless, _mm256_mul_pd(w, off));
  };
  __m256d first = _mm256_setzero_pd(), second = first;
  for (int64_t i = 0; i < n; i += 8) {
    __m256 x, w;
    if (n - i >= 8) {
      x = _mm256_loadu_ps(logits + i);
      w = _mm256_loadu_ps(weights + i);
    } else {
      const __m256i present = lanes_present(n - i);
      x = _mm256_maskload_ps(logits + i, present);
      w = _mm256_maskload_ps(weights + i, present);
    }
    first = _mm256_add_pd(first, product(_mm256_castps256_ps128(w), _mm256_castps256_ps128(x)));
    second = _mm256_add_pd(second, product(_mm256_extractf128_ps(w, 1), _mm256_extractf128_ps(x, 1)));
  }
  return sum_of(first, second);
}

void weigh_candidates(Candidate* candidates, int64_t n, float maximum, float temperature) {
  const __m256 m = _mm256_set1_ps(maximum), t = _mm256_set1_ps(temperature);
  for (int64_t begin = 0; begin < n; begin += 8) {
    const int64_t count = n - begin < 8 ? n - begin : 8;
    alignas(32) float lanes[8] = {};
    for (int64_t i = 0; i < count; ++i) lanes[i] = candidates[begin + i].logit;
    _mm256_store_ps(lanes, exponential(_mm256_div_ps(_mm256_sub_ps(_mm256_load_ps(lanes), m), t)));
    for (int64_t i = 0; i < count; ++i) candidates[begin + i].weight = lanes[i];
  }
}

}  // namespace

const SampleKernels& sample_kernels_avx2() {
  static constexpr SampleKernels kernels = {summarise, weigh, collect, weight_between, moment, weigh_candidates};
  return kernels;
}

}  // namespace crible
