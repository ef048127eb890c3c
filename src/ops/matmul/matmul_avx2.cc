// AVX2 kernels: 16 weight rows × up to 4 activation rows per register tile. The 16-bit products of
// vpmaddwd are exact, so only the order of the float32 additions matters, and that is fixed by
// matmul_kernels.h. Compiled with -mavx2 -mfma -mf16c: reached only behind cpu_features.h.
#include <immintrin.h>

#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

constexpr int kTileRows = 4;  // 8 accumulators, 4 weight registers, 1 activation: fills 16 registers

int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// --- Quantising activations ---------------------------------------------------------------------

float largest_magnitude(__m256 x0, __m256 x1, __m256 x2, __m256 x3) {
  const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF);
  const auto magnitude = [&](__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), mask); };
  __m256i m = _mm256_max_epi32(_mm256_max_epi32(magnitude(x0), magnitude(x1)),
                               _mm256_max_epi32(magnitude(x2), magnitude(x3)));
  __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return _mm_cvtss_f32(_mm_castsi128_ps(h));
}

int32_t sum_of_16bit(__m256i a, __m256i b) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i s = _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
  __m128i h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xB1));
  return _mm_cvtsi128_si32(h);
}

void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* offset) {
  const __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8);
  const __m256 x2 = _mm256_loadu_ps(x + 16), x3 = _mm256_loadu_ps(x + 24);
  const float largest = largest_magnitude(x0, x1, x2, x3);
  const bool finite = largest < __builtin_inff();  // false for NaN too
  const bool zero = !finite || largest < 1e-30f;
  const __m256 inverse = _mm256_set1_ps(zero ? 0.0f : 32767.0f / largest);
  __m256i a = _mm256_setzero_si256(), b = a;
  if (!zero) {
    a = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x0, inverse)), _mm256_cvtps_epi32(_mm256_mul_ps(x1, inverse)));
    b = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x2, inverse)), _mm256_cvtps_epi32(_mm256_mul_ps(x3, inverse)));
    // The packing works within 128-bit halves: put the quarters back in order.
    a = _mm256_permute4x64_epi64(a, 0xD8);
    b = _mm256_permute4x64_epi64(b, 0xD8);
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), b);
  const int32_t total = sum_of_16bit(a, b);
  *scale = finite ? (zero ? 0.0f : largest / 32767.0f) : __builtin_nanf("");
  *sum = *scale * static_cast<float>(total);
  *offset = -8 * total;
}

void quantise_rows(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q) {
  const int64_t blocks = columns / kQuantBlock;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t b = 0; b < blocks; ++b) {
      quantise_block(x + r * x_stride + b * kQuantBlock, q.values + r * columns + b * kQuantBlock,
                     q.scales + r * blocks + b, q.sums + r * blocks + b, q.offsets + r * blocks + b);
    }
  }
}

// --- Register tiles -----------------------------------------------------------------------------

__m256 load_halves(const std::byte* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
__m256i load_words(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
// Two neighbouring 16-bit activations in every 32-bit lane.
__m256i broadcast_pair(const int16_t* p) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
}

// acc[t] += 16 rows' weights of one k pair · activations of row t.
template <int T>
inline __attribute__((always_inline)) void add_pair(__m256i (&acc)[T][2], __m256i w0, __m256i w1,
                                                    const int16_t* const (&values)[T], int64_t k) {
  for (int t = 0; t < T; ++t) {
    const __m256i a = broadcast_pair(values[t] + k);
    acc[t][0] = _mm256_add_epi32(acc[t][0], _mm256_madd_epi16(w0, a));
    acc[t][1] = _mm256_add_epi32(acc[t][1], _mm256_madd_epi16(w1, a));
  }
}

// words: 4 × (16 rows × 8 nibbles).
template <int T>
inline __attribute__((always_inline)) void dot_nibbles(__m256i (&acc)[T][2], const std::byte* words,
                                                       const int16_t* const (&values)[T], int64_t k0) {
  const __m256i mask = _mm256_set1_epi16(0xF);
  for (int i = 0; i < 4; ++i) {
    const std::byte* p = words + i * 64;
    const __m256i w0 = load_words(p), w1 = load_words(p + 32);
    const int64_t k = k0 + i * 8;
    add_pair<T>(acc, _mm256_and_si256(w0, mask), _mm256_and_si256(w1, mask), values, k);
    add_pair<T>(acc, _mm256_and_si256(_mm256_srli_epi16(w0, 4), mask),
                _mm256_and_si256(_mm256_srli_epi16(w1, 4), mask), values, k + 2);
    add_pair<T>(acc, _mm256_and_si256(_mm256_srli_epi16(w0, 8), mask),
                _mm256_and_si256(_mm256_srli_epi16(w1, 8), mask), values, k + 4);
    add_pair<T>(acc, _mm256_srli_epi16(w0, 12), _mm256_srli_epi16(w1, 12), values, k + 6);
  }
}

template <int T>
inline __attribute__((always_inline)) void dot_bytes(__m256i (&acc)[T][2], const std::byte* words,
                                                     const int16_t* const (&values)[T], int64_t k0) {
  for (int i = 0; i < 8; ++i) {
    const __m256i w0 = load_words(words + i * 64), w1 = load_words(words + i * 64 + 32);
    const int64_t k = k0 + i * 4;
    add_pair<T>(acc, _mm256_srai_epi16(_mm256_slli_epi16(w0, 8), 8),
                _mm256_srai_epi16(_mm256_slli_epi16(w1, 8), 8), values, k);
    add_pair<T>(acc, _mm256_srai_epi16(w0, 8), _mm256_srai_epi16(w1, 8), values, k + 2);
  }
}

struct Q4_1Block {
  static constexpr int64_t kBytes = 20 * kPackRows;
  static constexpr int64_t kHeader = 4 * kPackRows;
  static constexpr bool kMinimum = true, kOffset = false, kNibbles = true;
};
struct Q4_0Block {
  static constexpr int64_t kBytes = 18 * kPackRows;
  static constexpr int64_t kHeader = 2 * kPackRows;
  static constexpr bool kMinimum = false, kOffset = true, kNibbles = true;
};
struct Q8_0Block {
  static constexpr int64_t kBytes = 34 * kPackRows;
  static constexpr int64_t kHeader = 2 * kPackRows;
  static constexpr bool kMinimum = false, kOffset = false, kNibbles = false;
};

template <typename Block, int T>
void quantised_tile(const MatmulTask& task, const std::byte* group, int64_t row, __m256 (&sum)[T][2]) {
  const int64_t blocks = task.columns / kQuantBlock;
  const int16_t* values[T];
  for (int t = 0; t < T; ++t) {
    values[t] = task.quantised.values + (row + t) * task.columns;
    sum[t][0] = sum[t][1] = _mm256_setzero_ps();
  }
  const float* scales = task.quantised.scales + row * blocks;
  const float* sums = task.quantised.sums + row * blocks;
  const int32_t* offsets = task.quantised.offsets + row * blocks;
  for (int64_t b = 0; b < blocks; ++b, group += Block::kBytes) {
    __m256i acc[T][2];
    for (int t = 0; t < T; ++t) {
      acc[t][0] = Block::kOffset ? _mm256_set1_epi32(offsets[t * blocks + b]) : _mm256_setzero_si256();
      acc[t][1] = acc[t][0];
    }
    if constexpr (Block::kNibbles) {
      dot_nibbles<T>(acc, group + Block::kHeader, values, b * kQuantBlock);
    } else {
      dot_bytes<T>(acc, group + Block::kHeader, values, b * kQuantBlock);
    }
    for (int half = 0; half < 2; ++half) {
      const __m256 weight_scale = load_halves(group + half * 16);
      for (int t = 0; t < T; ++t) {
        const __m256 scale = _mm256_mul_ps(weight_scale, _mm256_broadcast_ss(scales + t * blocks + b));
        sum[t][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[t][half]), scale, sum[t][half]);
      }
      if constexpr (Block::kMinimum) {
        const __m256 minimum = load_halves(group + 2 * kPackRows + half * 16);
        for (int t = 0; t < T; ++t) {
          sum[t][half] = _mm256_fmadd_ps(minimum, _mm256_broadcast_ss(sums + t * blocks + b), sum[t][half]);
        }
      }
    }
  }
}

struct F32Weights {
  static constexpr int64_t kBytes = 4;
  static __m256 load(const std::byte* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
};
struct F16Weights {
  static constexpr int64_t kBytes = 2;
  static __m256 load(const std::byte* p) { return load_halves(p); }
};
struct BF16Weights {
  static constexpr int64_t kBytes = 2;
  static __m256 load(const std::byte* p) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
};

template <typename Weights, int T>
void float_tile(const MatmulTask& task, const std::byte* group, int64_t row, __m256 (&sum)[T][2]) {
  const float* x[T];
  __m256 acc[T][2];
  for (int t = 0; t < T; ++t) {
    x[t] = task.x + (row + t) * task.x_stride;
    acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  }
  for (int64_t k = 0; k < task.columns; ++k, group += Weights::kBytes * kPackRows) {
    const __m256 w0 = Weights::load(group), w1 = Weights::load(group + Weights::kBytes * 8);
    for (int t = 0; t < T; ++t) {
      const __m256 a = _mm256_broadcast_ss(x[t] + k);
      acc[t][0] = _mm256_fmadd_ps(a, w0, acc[t][0]);
      acc[t][1] = _mm256_fmadd_ps(a, w1, acc[t][1]);
    }
  }
  for (int t = 0; t < T; ++t) {
    sum[t][0] = acc[t][0];
    sum[t][1] = acc[t][1];
  }
}

void store_row(const MatmulTask& task, int64_t row, int64_t n, __m256 v0, __m256 v1) {
  float* out = task.out + row * task.out_stride + n;
  if (n + kPackRows <= task.out_columns) {
    if (task.bias != nullptr) {
      v0 = _mm256_add_ps(v0, _mm256_loadu_ps(task.bias + n));
      v1 = _mm256_add_ps(v1, _mm256_loadu_ps(task.bias + n + 8));
    }
    if (task.accumulate) {
      v0 = _mm256_add_ps(_mm256_loadu_ps(out), v0);
      v1 = _mm256_add_ps(_mm256_loadu_ps(out + 8), v1);
    }
    _mm256_storeu_ps(out, v0);
    _mm256_storeu_ps(out + 8, v1);
    return;
  }
  alignas(32) float values[kPackRows];
  _mm256_store_ps(values, v0);
  _mm256_store_ps(values + 8, v1);
  for (int64_t i = 0; n + i < task.out_columns; ++i) {
    float value = values[i];
    if (task.bias != nullptr) value += task.bias[n + i];
    out[i] = task.accumulate ? out[i] + value : value;
  }
}

template <typename Block, int T>
void tile(const MatmulTask& task, const std::byte* group, int64_t row, int64_t n) {
  __m256 sum[T][2];
  if constexpr (requires { Block::kHeader; }) {
    quantised_tile<Block, T>(task, group, row, sum);
  } else {
    float_tile<Block, T>(task, group, row, sum);
  }
  for (int t = 0; t < T; ++t) store_row(task, row + t, n, sum[t][0], sum[t][1]);
}

// Group by group, so that a group's weights stay in the first-level cache while all rows pass.
template <typename Block>
void run(const MatmulTask& task) {
  for (int64_t g = task.group_begin; g < task.group_end; ++g) {
    const std::byte* group = task.weights + g * task.group_bytes;
    const int64_t n = g * kPackRows;
    for (int64_t row = task.row_begin; row < task.row_end; row += kTileRows) {
      switch (min64(kTileRows, task.row_end - row)) {
        case 1: tile<Block, 1>(task, group, row, n); break;
        case 2: tile<Block, 2>(task, group, row, n); break;
        case 3: tile<Block, 3>(task, group, row, n); break;
        default: tile<Block, kTileRows>(task, group, row, n); break;
      }
    }
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_avx2() {
  static constexpr MatmulKernels kernels = {quantise_rows,  run<F32Weights>, run<F16Weights>, run<BF16Weights>,
                                            run<Q8_0Block>, run<Q4_0Block>,  run<Q4_1Block>};
  return kernels;
}

}  // namespace crible
