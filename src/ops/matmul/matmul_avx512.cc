// AVX-512 kernels: one register holds a k pair of 16 weight rows, and vpdpwssd multiplies and adds it
// in one instruction. Exact within a block like the others, so the results equal theirs bit for
// bit. Compiled with -mavx512f/bw/dq/vl/vnni: reached only behind cpu_features.h.
// GCC 12's own header reads a deliberately undefined register in its conversions.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "ops/matmul/matmul_kernels.h"

// Register tiles are arrays indexed by unrolled loops; at -O2 the compiler would leave the loops, and
// the accumulators in memory.
#define CRIBLE_UNROLL _Pragma("GCC unroll 16")

namespace crible {
namespace {

constexpr int kTileRows = 8;

int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

void quantise_block(const float* x, int16_t* values, float* scale, float* sum, int32_t* offset) {
  const __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
  const __m512i mask = _mm512_set1_epi32(0x7FFFFFFF);
  const int32_t largest_bits = _mm512_reduce_max_epi32(_mm512_max_epi32(
      _mm512_and_si512(_mm512_castps_si512(x0), mask), _mm512_and_si512(_mm512_castps_si512(x1), mask)));
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(largest_bits)));
  const bool finite = largest_bits < 0x7F800000;
  const bool zero = !finite || largest < 1e-30f;
  const __m512 inverse = _mm512_set1_ps(zero ? 0.0f : 32767.0f / largest);
  __m512i q0 = _mm512_setzero_si512(), q1 = q0;
  if (!zero) {
    q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
    q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm512_cvtepi32_epi16(q0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + 16), _mm512_cvtepi32_epi16(q1));
  const int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1));
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

__m512 load_halves(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// vpdpwssd takes about five cycles: few rows need several sums under way. Integer sums are exact, so splitting them
// changes nothing.
template <int T>
constexpr int kChains = T == 1 ? 4 : T <= 4 ? 2 : 1;

template <int T>
using Dots = __m512i[kChains<T>][T];

// dots[pair modulo chains][t] += 16 weight rows' k pair · activations of row t.
template <int T>
inline __attribute__((always_inline)) void add_pair(Dots<T>& dots, int pair, __m512i w,
                                                    const int16_t* const (&values)[T], int64_t k0) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    const float both = *reinterpret_cast<const float*>(values[t] + k0 + 2 * pair);
    __m512i& dot = dots[pair % kChains<T>][t];
    dot = _mm512_dpwssd_epi32(dot, w, _mm512_castps_si512(_mm512_set1_ps(both)));
  }
}

template <int T>
inline __attribute__((always_inline)) void dot_nibbles(Dots<T>& dots, const std::byte* words,
                                                       const int16_t* const (&values)[T], int64_t k0) {
  const __m512i mask = _mm512_set1_epi16(0xF);
  CRIBLE_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512i w = _mm512_loadu_si512(words + i * 64);
    add_pair<T>(dots, 4 * i, _mm512_and_si512(w, mask), values, k0);
    add_pair<T>(dots, 4 * i + 1, _mm512_and_si512(_mm512_srli_epi16(w, 4), mask), values, k0);
    add_pair<T>(dots, 4 * i + 2, _mm512_and_si512(_mm512_srli_epi16(w, 8), mask), values, k0);
    add_pair<T>(dots, 4 * i + 3, _mm512_srli_epi16(w, 12), values, k0);
  }
}

template <int T>
inline __attribute__((always_inline)) void dot_bytes(Dots<T>& dots, const std::byte* words,
                                                     const int16_t* const (&values)[T], int64_t k0) {
  CRIBLE_UNROLL
  for (int i = 0; i < 8; ++i) {
    const __m512i w = _mm512_loadu_si512(words + i * 64);
    add_pair<T>(dots, 2 * i, _mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), values, k0);
    add_pair<T>(dots, 2 * i + 1, _mm512_srai_epi16(w, 8), values, k0);
  }
}

// Few rows stream the weights from memory, and the hardware's own prefetching stops at 4 KiB pages. Groups follow
// one another; a prefetch beyond the matrix is harmless.
constexpr int64_t kPrefetchBytes = 4096;

template <int64_t kBytes>
inline __attribute__((always_inline)) void prefetch(const std::byte* p) {
  for (int64_t i = 0; i < kBytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T0);
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
void quantised_tile(const MatmulTask& task, const std::byte* group, int64_t row, __m512 (&sum)[T]) {
  const int64_t blocks = task.columns / kQuantBlock;
  const int16_t* values[T];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    values[t] = task.quantised.values + (row + t) * task.columns;
    sum[t] = _mm512_setzero_ps();
  }
  const float* scales = task.quantised.scales + row * blocks;
  const float* sums = task.quantised.sums + row * blocks;
  const int32_t* offsets = task.quantised.offsets + row * blocks;
  for (int64_t b = 0; b < blocks; ++b, group += Block::kBytes) {
    Dots<T> dots;
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) {
      dots[0][t] = Block::kOffset ? _mm512_set1_epi32(offsets[t * blocks + b]) : _mm512_setzero_si512();
      for (int c = 1; c < kChains<T>; ++c) dots[c][t] = _mm512_setzero_si512();
    }
    if constexpr (T <= 4) prefetch<Block::kBytes>(group + kPrefetchBytes);
    if constexpr (Block::kNibbles) {
      dot_nibbles<T>(dots, group + Block::kHeader, values, b * kQuantBlock);
    } else {
      dot_bytes<T>(dots, group + Block::kHeader, values, b * kQuantBlock);
    }
    const __m512 weight_scale = load_halves(group);
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m512 scale = _mm512_mul_ps(weight_scale, _mm512_set1_ps(scales[t * blocks + b]));
      __m512i dot = dots[0][t];
      for (int c = 1; c < kChains<T>; ++c) dot = _mm512_add_epi32(dot, dots[c][t]);
      sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum[t]);
    }
    if constexpr (Block::kMinimum) {
      const __m512 minimum = load_halves(group + 2 * kPackRows);
      CRIBLE_UNROLL
      for (int t = 0; t < T; ++t) {
        sum[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(sums[t * blocks + b]), sum[t]);
      }
    }
  }
}

struct F32Weights {
  static constexpr int64_t kBytes = 4;
  static __m512 load(const std::byte* p) { return _mm512_loadu_ps(p); }
};
struct F16Weights {
  static constexpr int64_t kBytes = 2;
  static __m512 load(const std::byte* p) { return load_halves(p); }
};
struct BF16Weights {
  static constexpr int64_t kBytes = 2;
  static __m512 load(const std::byte* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
};

template <typename Weights, int T>
void float_tile(const MatmulTask& task, const std::byte* group, int64_t row, __m512 (&sum)[T]) {
  const float* x[T];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    x[t] = task.x + (row + t) * task.x_stride;
    sum[t] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < task.columns; ++k, group += Weights::kBytes * kPackRows) {
    const __m512 w = Weights::load(group);
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) sum[t] = _mm512_fmadd_ps(_mm512_set1_ps(x[t][k]), w, sum[t]);
  }
}

template <typename Block, int T>
void tile(const MatmulTask& task, const std::byte* group, int64_t row, int64_t n) {
  __m512 sum[T];
  if constexpr (requires { Block::kHeader; }) {
    quantised_tile<Block, T>(task, group, row, sum);
  } else {
    float_tile<Block, T>(task, group, row, sum);
  }
  const int64_t lanes = min64(kPackRows, task.out_columns - n);
  const __mmask16 mask = static_cast<__mmask16>((1u << lanes) - 1);
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    float* out = task.out + (row + t) * task.out_stride + n;
    __m512 value = sum[t];
    if (task.bias != nullptr) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, task.bias + n));
    if (task.accumulate) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), value);
    _mm512_mask_storeu_ps(out, mask, value);
  }
}

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
        case 4: tile<Block, 4>(task, group, row, n); break;
        case 5: tile<Block, 5>(task, group, row, n); break;
        case 6: tile<Block, 6>(task, group, row, n); break;
        case 7: tile<Block, 7>(task, group, row, n); break;
        default: tile<Block, kTileRows>(task, group, row, n); break;
      }
    }
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_avx512() {
  static constexpr MatmulKernels kernels = {quantise_rows,  run<F32Weights>, run<F16Weights>, run<BF16Weights>,
                                            run<Q8_0Block>, run<Q4_0Block>,  run<Q4_1Block>};
  return kernels;
}

}  // namespace crible
