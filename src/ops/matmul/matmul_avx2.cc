// AVX2 kernels: 16 weight rows × up to 4 activation rows per register tile. The 16-bit products of
// vpmaddwd are exact, so only the order of the float32 additions matters, and that is fixed by
// matmul_kernels.h. Compiled with -mavx2 -mfma -mf16c: reached only behind cpu_features.h.
#include <immintrin.h>

#include "ops/matmul/matmul_kernels.h"

// Register tiles are arrays indexed by unrolled loops; at -O2 the compiler would leave the loops, and
// the accumulators in memory.
#define CRIBLE_UNROLL _Pragma("GCC unroll 16")

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

// acc[t] += 16 rows' weights of one k pair · activations of row t; with kFirst, acc[t] = that product.
template <int T, bool kFirst>
inline __attribute__((always_inline)) void add_pair(__m256i (&acc)[T][2], __m256i w0, __m256i w1,
                                                    const int16_t* const (&values)[T], int64_t k) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    const __m256i a = broadcast_pair(values[t] + k);
    const __m256i p0 = _mm256_madd_epi16(w0, a), p1 = _mm256_madd_epi16(w1, a);
    acc[t][0] = kFirst ? p0 : _mm256_add_epi32(acc[t][0], p0);
    acc[t][1] = kFirst ? p1 : _mm256_add_epi32(acc[t][1], p1);
    // Integer sums may be reordered, and the compiler would: all products first, to memory, sums
    // after. This keeps each sum in its register.
    asm("" : "+x"(acc[t][0]), "+x"(acc[t][1]));
  }
}

// The 16-bit weights of 16 rows for one k pair.
struct WeightPair {
  __m256i low, high;  // rows 0 to 7, 8 to 15
};

// What a block's bytes hold: pair(i) of the 16 k pairs of a block, in order.
struct NibblePairs {
  static constexpr int kPairsPerWord = 4;
  template <int kPair>
  static __m256i take(__m256i words) {
    const __m256i mask = _mm256_set1_epi16(0xF);
    if constexpr (kPair == 0) return _mm256_and_si256(words, mask);
    if constexpr (kPair == 3) return _mm256_srli_epi16(words, 12);
    return _mm256_and_si256(_mm256_srli_epi16(words, 4 * kPair), mask);
  }
};
struct BytePairs {
  static constexpr int kPairsPerWord = 2;
  template <int kPair>
  static __m256i take(__m256i words) {
    return _mm256_srai_epi16(kPair == 0 ? _mm256_slli_epi16(words, 8) : words, 8);
  }
};

template <typename Pairs, int kPair>
inline __attribute__((always_inline)) WeightPair weight_pair(const std::byte* words) {
  const std::byte* p = words + kPair / Pairs::kPairsPerWord * 64;
  return {Pairs::template take<kPair % Pairs::kPairsPerWord>(load_words(p)),
          Pairs::template take<kPair % Pairs::kPairsPerWord>(load_words(p + 32))};
}

// The 16 k pairs of a block, straight from its packed bytes.
template <typename Block, int T, int kPair = 0>
inline __attribute__((always_inline)) void dot_block(__m256i (&acc)[T][2], const std::byte* words,
                                                     const int16_t* const (&values)[T], int64_t k0) {
  const WeightPair w = weight_pair<typename Block::Pairs, kPair>(words);
  add_pair<T, kPair == 0 && !Block::kOffset>(acc, w.low, w.high, values, k0 + 2 * kPair);
  if constexpr (kPair + 1 < kQuantBlock / 2) dot_block<Block, T, kPair + 1>(acc, words, values, k0);
}

struct Q4_1Block {
  static constexpr int64_t kBytes = 20 * kPackRows;
  static constexpr int64_t kHeader = 4 * kPackRows;
  static constexpr bool kMinimum = true, kOffset = false;
  using Pairs = NibblePairs;
};
struct Q4_0Block {
  static constexpr int64_t kBytes = 18 * kPackRows;
  static constexpr int64_t kHeader = 2 * kPackRows;
  static constexpr bool kMinimum = false, kOffset = true;
  using Pairs = NibblePairs;
};
struct Q8_0Block {
  static constexpr int64_t kBytes = 34 * kPackRows;
  static constexpr int64_t kHeader = 2 * kPackRows;
  static constexpr bool kMinimum = false, kOffset = false;
  using Pairs = BytePairs;
};

// Activations of T rows as the tiles read them.
template <int T>
struct TileRows {
  const int16_t* values[T];
  const float* scales;
  const float* sums;
  const int32_t* offsets;
  int64_t blocks;

  TileRows(const MatmulTask& task, int64_t row) : blocks(task.columns / kQuantBlock) {
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) values[t] = task.quantised.values + (row + t) * task.columns;
    scales = task.quantised.scales + row * blocks;
    sums = task.quantised.sums + row * blocks;
    offsets = task.quantised.offsets + row * blocks;
  }
};

template <typename Block, int T>
inline __attribute__((always_inline)) void start_block(__m256i (&acc)[T][2], const TileRows<T>& rows, int64_t b) {
  if constexpr (Block::kOffset) {
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) acc[t][0] = acc[t][1] = _mm256_set1_epi32(rows.offsets[t * rows.blocks + b]);
  }
}

// sum += a block's integer dots, scaled. scale and minimum: of 8 weight rows.
template <typename Block, int T>
inline __attribute__((always_inline)) void finish_block(__m256 (&sum)[T][2], const __m256i (&acc)[T][2], int half,
                                                        __m256 weight_scale, __m256 minimum, const TileRows<T>& rows,
                                                        int64_t b) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    const __m256 scale = _mm256_mul_ps(weight_scale, _mm256_broadcast_ss(rows.scales + t * rows.blocks + b));
    sum[t][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[t][half]), scale, sum[t][half]);
    if constexpr (Block::kMinimum) {
      sum[t][half] = _mm256_fmadd_ps(minimum, _mm256_broadcast_ss(rows.sums + t * rows.blocks + b), sum[t][half]);
    }
  }
}

// Few rows stream the weights from memory, and the hardware's own prefetching stops at 4 KiB pages. Groups follow
// one another, so what lies ahead is the next group's start; a prefetch beyond the matrix is harmless.
constexpr int64_t kPrefetchBytes = 4096;

template <int64_t kBytes>
inline __attribute__((always_inline)) void prefetch(const std::byte* p) {
  for (int64_t i = 0; i < kBytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T0);
}

template <typename Block, int T>
void quantised_tile(const MatmulTask& task, const std::byte* group, int64_t row, __m256 (&sum)[T][2]) {
  const TileRows<T> rows(task, row);
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_ps();
  for (int64_t b = 0; b < rows.blocks; ++b, group += Block::kBytes) {
    __m256i acc[T][2];
    start_block<Block, T>(acc, rows, b);
    prefetch<Block::kBytes>(group + kPrefetchBytes);
    dot_block<Block, T>(acc, group + Block::kHeader, rows.values, b * kQuantBlock);
    CRIBLE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const __m256 scale = load_halves(group + half * 16);
      const __m256 minimum = Block::kMinimum ? load_halves(group + 2 * kPackRows + half * 16) : _mm256_setzero_ps();
      finish_block<Block, T>(sum, acc, half, scale, minimum, rows, b);
    }
  }
}

// --- Many rows: weights unpacked once per panel of K and used for all of them ---------------------

constexpr int64_t kPanelBlocks = 4;
constexpr int64_t kPanelMinRows = 6;
constexpr int64_t kPairsPerBlock = kQuantBlock / 2;

struct alignas(64) Panel {
  __m256i weights[kPanelBlocks][kPairsPerBlock][2];
  __m256 scales[kPanelBlocks][2];
  __m256 minima[kPanelBlocks][2];
};

template <typename Block, int kPair = 0>
inline __attribute__((always_inline)) void unpack_pairs(__m256i (&weights)[kPairsPerBlock][2], const std::byte* words) {
  const WeightPair w = weight_pair<typename Block::Pairs, kPair>(words);
  weights[kPair][0] = w.low;
  weights[kPair][1] = w.high;
  if constexpr (kPair + 1 < kPairsPerBlock) unpack_pairs<Block, kPair + 1>(weights, words);
}

template <typename Block>
void unpack_panel(Panel& panel, const std::byte* group, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, group += Block::kBytes) {
    prefetch<Block::kBytes>(group + kPrefetchBytes);
    unpack_pairs<Block>(panel.weights[b], group + Block::kHeader);
    CRIBLE_UNROLL
    for (int half = 0; half < 2; ++half) {
      panel.scales[b][half] = load_halves(group + half * 16);
      if constexpr (Block::kMinimum) panel.minima[b][half] = load_halves(group + 2 * kPackRows + half * 16);
    }
  }
}

template <typename Block, int T, int kPair = 0>
inline __attribute__((always_inline)) void dot_panel_block(__m256i (&acc)[T][2],
                                                           const __m256i (&weights)[kPairsPerBlock][2],
                                                           const int16_t* const (&values)[T], int64_t k0) {
  add_pair<T, kPair == 0 && !Block::kOffset>(acc, weights[kPair][0], weights[kPair][1], values, k0 + 2 * kPair);
  if constexpr (kPair + 1 < kPairsPerBlock) dot_panel_block<Block, T, kPair + 1>(acc, weights, values, k0);
}

// sums: [T][16], carried from panel to panel.
template <typename Block, int T>
void panel_tile(const MatmulTask& task, const Panel& panel, int64_t first_block, int64_t blocks, int64_t row,
                float* sums) {
  const TileRows<T> rows(task, row);
  __m256 sum[T][2];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    sum[t][0] = _mm256_load_ps(sums + t * kPackRows);
    sum[t][1] = _mm256_load_ps(sums + t * kPackRows + 8);
  }
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = first_block + i;
    __m256i acc[T][2];
    start_block<Block, T>(acc, rows, b);
    dot_panel_block<Block, T>(acc, panel.weights[i], rows.values, b * kQuantBlock);
    CRIBLE_UNROLL
    for (int half = 0; half < 2; ++half) {
      finish_block<Block, T>(sum, acc, half, panel.scales[i][half], panel.minima[i][half], rows, b);
    }
  }
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    _mm256_store_ps(sums + t * kPackRows, sum[t][0]);
    _mm256_store_ps(sums + t * kPackRows + 8, sum[t][1]);
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
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    x[t] = task.x + (row + t) * task.x_stride;
    acc[t][0] = acc[t][1] = _mm256_setzero_ps();
  }
  for (int64_t k = 0; k < task.columns; ++k, group += Weights::kBytes * kPackRows) {
    const __m256 w0 = Weights::load(group), w1 = Weights::load(group + Weights::kBytes * 8);
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) {
      const __m256 a = _mm256_broadcast_ss(x[t] + k);
      acc[t][0] = _mm256_fmadd_ps(a, w0, acc[t][0]);
      acc[t][1] = _mm256_fmadd_ps(a, w1, acc[t][1]);
    }
  }
  CRIBLE_UNROLL
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
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) store_row(task, row + t, n, sum[t][0], sum[t][1]);
}

template <typename Block>
void run_panels(const MatmulTask& task, int64_t g) {
  const std::byte* group = task.weights + g * task.group_bytes;
  const int64_t blocks = task.columns / kQuantBlock;
  const int64_t count = task.row_end - task.row_begin;
  Panel panel;
  alignas(32) float sums[kMaxTaskRows * kPackRows];
  __builtin_memset(sums, 0, static_cast<size_t>(count * kPackRows) * sizeof(float));
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t n = min64(kPanelBlocks, blocks - first);
    unpack_panel<Block>(panel, group + first * Block::kBytes, n);
    for (int64_t done = 0; done < count; done += kTileRows) {
      const int64_t row = task.row_begin + done;
      float* s = sums + done * kPackRows;
      switch (min64(kTileRows, count - done)) {
        case 1: panel_tile<Block, 1>(task, panel, first, n, row, s); break;
        case 2: panel_tile<Block, 2>(task, panel, first, n, row, s); break;
        case 3: panel_tile<Block, 3>(task, panel, first, n, row, s); break;
        default: panel_tile<Block, kTileRows>(task, panel, first, n, row, s); break;
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const float* s = sums + i * kPackRows;
    store_row(task, task.row_begin + i, g * kPackRows, _mm256_load_ps(s), _mm256_load_ps(s + 8));
  }
}

template <typename Block>
void run_tiles(const MatmulTask& task, int64_t g) {
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

// Group by group, so that a group's weights stay in the first-level cache while all rows pass.
template <typename Block>
void run(const MatmulTask& task) {
  for (int64_t g = task.group_begin; g < task.group_end; ++g) {
    if constexpr (requires { Block::kHeader; }) {
      if (task.row_end - task.row_begin >= kPanelMinRows) {
        run_panels<Block>(task, g);
        continue;
      }
    }
    run_tiles<Block>(task, g);
  }
}

}  // namespace

const MatmulKernels& matmul_kernels_avx2() {
  static constexpr MatmulKernels kernels = {quantise_rows,  run<F32Weights>, run<F16Weights>, run<BF16Weights>,
                                            run<Q8_0Block>, run<Q4_0Block>,  run<Q4_1Block>};
  return kernels;
}

}  // namespace crible
