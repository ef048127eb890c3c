// The loops of the vector kernels, written once over V (see packed_blocks.h): register tiles of 16 weight rows × up to
// V::kTileRows activation rows. Few rows take weights straight from their packed bytes; many rows take them from a
// panel of a few blocks that is unpacked once for all of them, or their scales alone. All add in the order of
// matmul_kernels.h.
#pragma once

#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/packed_blocks.h"

// Register tiles are arrays indexed by unrolled loops; at -O2 the compiler would leave the loops, and
// the accumulators in memory.
#define CRIBLE_UNROLL _Pragma("GCC unroll 16")
// Register tiles compile well by themselves only: inside their caller their sums are kept in memory.
#define CRIBLE_APART __attribute__((noinline))

namespace crible {

// Few rows stream the weights from memory, and the hardware's own prefetching stops at 4 KiB pages. Groups follow
// one another, so what lies ahead is the next group's start; a prefetch beyond the matrix is harmless.
inline constexpr int64_t kPrefetchBytes = 4096;
inline constexpr int64_t kPanelBlocks = 4;
inline constexpr int64_t kScalePanelBlocks = 32;
inline constexpr int kStepsPerBlock = 8;

// Activations of T rows as the tiles read them.
template <class V, int T>
struct TileRows {
  const int16_t* values[T];
  const float* scales;
  const float* sums;
  const int32_t* half_sums;
  int64_t blocks;

  CRIBLE_INLINE TileRows(const MatmulTask& task, int64_t row) : blocks(task.columns / kQuantBlock) {
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) values[t] = task.quantised.values + (row + t) * task.columns;
    scales = task.quantised.scales + row * blocks;
    sums = task.quantised.sums + row * blocks;
    half_sums = task.quantised.half_sums + row * blocks * 2;
  }
};

// Integer sums are exact, so splitting one into several chains that hide the multiplier's latency changes nothing.
template <class V, int T>
struct Dots {
  static constexpr int kChains = V::template chains<T>();
  typename V::Int sums[kChains][T];

  CRIBLE_INLINE void add(int pair, typename V::Int weights, const TileRows<V, T>& rows, int64_t k) {
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) V::multiply_add(sums[pair % kChains][t], weights, rows.values[t] + k);
  }
  CRIBLE_INLINE typename V::Int total(int t) const {
    typename V::Int total = sums[0][t];
    CRIBLE_UNROLL
    for (int c = 1; c < kChains; ++c) total = V::add(total, sums[c][t]);
    return total;
  }
};

template <class V, class Block, int T>
CRIBLE_INLINE void start_sub_block(Dots<V, T>& dots, const TileRows<V, T>& rows, int64_t b, int sub) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    if constexpr (Block::kCentre == 0) {
      dots.sums[0][t] = V::zero();
    } else {
      const int32_t* halves = rows.half_sums + 2 * (t * rows.blocks + b);
      const int32_t sum = Block::kSubBlocks == 1 ? halves[0] + halves[1] : halves[sub];
      dots.sums[0][t] = V::broadcast(-Block::kCentre * sum);
    }
    CRIBLE_UNROLL
    for (int c = 1; c < Dots<V, T>::kChains; ++c) dots.sums[c][t] = V::zero();
  }
}

template <class V, int T>
CRIBLE_INLINE void finish_sub_block(typename V::Float (&sum)[T], const Dots<V, T>& dots, typename V::Float weight_scale,
                                    const TileRows<V, T>& rows, int64_t b) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    const auto scale = V::multiply(weight_scale, V::broadcast(rows.scales[t * rows.blocks + b]));
    sum[t] = V::multiply_add(V::to_float(dots.total(t)), scale, sum[t]);
  }
}

template <class V, int T>
CRIBLE_INLINE void add_minimum(typename V::Float (&sum)[T], typename V::Float minimum, const TileRows<V, T>& rows,
                               int64_t b) {
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    sum[t] = V::multiply_add(minimum, V::broadcast(rows.sums[t * rows.blocks + b]), sum[t]);
  }
}

template <class V, int64_t kBytes>
CRIBLE_INLINE void prefetch(const std::byte* p) {
  for (int64_t i = 0; i < kBytes; i += 64) V::prefetch(p + i);
}

// --- Few rows ---------------------------------------------------------------------------------------

template <class V, class Block, int T, int kStep, int kEnd>
CRIBLE_INLINE void dot_steps(Dots<V, T>& dots, const std::byte* values, const TileRows<V, T>& rows, int64_t k0) {
  const PairOfPairs<V> pairs = Block::template step<kStep>(values);
  dots.add(2 * kStep, pairs.first, rows, k0 + Block::k_of(kStep, 0));
  dots.add(2 * kStep + 1, pairs.second, rows, k0 + Block::k_of(kStep, 1));
  if constexpr (kStep + 1 < kEnd) dot_steps<V, Block, T, kStep + 1, kEnd>(dots, values, rows, k0);
}

template <class V, class Block, int T, int kSub = 0>
CRIBLE_INLINE void tile_sub_blocks(typename V::Float (&sum)[T], const std::byte* unit, int64_t j,
                                   const TileRows<V, T>& rows, int64_t b) {
  constexpr int kSteps = kStepsPerBlock / Block::kSubBlocks;
  Dots<V, T> dots;
  start_sub_block<V, Block, T>(dots, rows, b, kSub);
  dot_steps<V, Block, T, kSub * kSteps, (kSub + 1) * kSteps>(dots, unit + Block::kHeaderBytes + j * Block::kBlockBytes, rows,
                                                             b * kQuantBlock);
  finish_sub_block<V, T>(sum, dots, Block::scale(unit, j, kSub), rows, b);
  if constexpr (kSub + 1 < Block::kSubBlocks) tile_sub_blocks<V, Block, T, kSub + 1>(sum, unit, j, rows, b);
}

template <class V, class Block, int T>
CRIBLE_INLINE void quantised_tile(const MatmulTask& task, const std::byte* group, int64_t row,
                                  typename V::Float (&sum)[T]) {
  const TileRows<V, T> rows(task, row);
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) sum[t] = V::zero_float();
  constexpr int64_t kStride = Block::kUnitBytes / Block::kUnitBlocks;
  const std::byte* unit = group;
  for (int64_t first = 0; first < rows.blocks; first += Block::kUnitBlocks, unit += Block::kUnitBytes) {
    for (int64_t j = 0; j < Block::kUnitBlocks; ++j) {
      prefetch<V, kStride>(unit + j * kStride + kPrefetchBytes);
      tile_sub_blocks<V, Block, T>(sum, unit, j, rows, first + j);
      if constexpr (Block::kMinimum) add_minimum<V, T>(sum, Block::minimum(unit, j), rows, first + j);
    }
  }
}

template <class V, class Weights, int T>
CRIBLE_INLINE void float_tile(const MatmulTask& task, const std::byte* group, int64_t row, typename V::Float (&sum)[T]) {
  const float* x[T];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) {
    x[t] = task.x + (row + t) * task.x_stride;
    sum[t] = V::zero_float();
  }
  for (int64_t k = 0; k < task.columns; ++k, group += Weights::kBytes * kPackRows) {
    const auto weights = Weights::load(group);
    CRIBLE_UNROLL
    for (int t = 0; t < T; ++t) sum[t] = V::multiply_add(V::broadcast(x[t][k]), weights, sum[t]);
  }
}

// --- Many rows --------------------------------------------------------------------------------------

template <class V>
struct alignas(64) Panel {
  typename V::Int weights[kPanelBlocks][2 * kStepsPerBlock];  // in the order of steps
  typename V::Float scales[kPanelBlocks][2];                  // of each sub-block
  typename V::Float minima[kPanelBlocks];
};

template <class V, class Block, int kStep = 0>
CRIBLE_INLINE void unpack_steps(typename V::Int (&weights)[2 * kStepsPerBlock], const std::byte* values) {
  const PairOfPairs<V> pairs = Block::template step<kStep>(values);
  V::store(weights[2 * kStep], pairs.first);
  V::store(weights[2 * kStep + 1], pairs.second);
  if constexpr (kStep + 1 < kStepsPerBlock) unpack_steps<V, Block, kStep + 1>(weights, values);
}

template <class V, class Block>
CRIBLE_APART void unpack_panel(Panel<V>& panel, const std::byte* group, int64_t first_block, int64_t blocks) {
  constexpr int64_t kStride = Block::kUnitBytes / Block::kUnitBlocks;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = first_block + i, j = b % Block::kUnitBlocks;
    const std::byte* unit = group + b / Block::kUnitBlocks * Block::kUnitBytes;
    prefetch<V, kStride>(unit + j * kStride + kPrefetchBytes);
    unpack_steps<V, Block>(panel.weights[i], unit + Block::kHeaderBytes + j * Block::kBlockBytes);
    CRIBLE_UNROLL
    for (int sub = 0; sub < Block::kSubBlocks; ++sub) V::store(panel.scales[i][sub], Block::scale(unit, j, sub));
    if constexpr (Block::kMinimum) V::store(panel.minima[i], Block::minimum(unit, j));
  }
}

template <class V, class Block, int T, int kPair, int kEnd>
CRIBLE_INLINE void dot_panel_pairs(Dots<V, T>& dots, const typename V::Int (&weights)[2 * kStepsPerBlock],
                                   const TileRows<V, T>& rows, int64_t k0) {
  dots.add(kPair, weights[kPair], rows, k0 + Block::k_of(kPair / 2, kPair % 2));
  if constexpr (kPair + 1 < kEnd) dot_panel_pairs<V, Block, T, kPair + 1, kEnd>(dots, weights, rows, k0);
}

template <class V, class Block, int T, int kSub = 0>
CRIBLE_INLINE void panel_sub_blocks(typename V::Float (&sum)[T], const Panel<V>& panel, int64_t i,
                                    const TileRows<V, T>& rows, int64_t b) {
  constexpr int kPairs = 2 * kStepsPerBlock / Block::kSubBlocks;
  Dots<V, T> dots;
  start_sub_block<V, Block, T>(dots, rows, b, kSub);
  dot_panel_pairs<V, Block, T, kSub * kPairs, (kSub + 1) * kPairs>(dots, panel.weights[i], rows, b * kQuantBlock);
  finish_sub_block<V, T>(sum, dots, panel.scales[i][kSub], rows, b);
  if constexpr (kSub + 1 < Block::kSubBlocks) panel_sub_blocks<V, Block, T, kSub + 1>(sum, panel, i, rows, b);
}

// sums: of T rows, carried from panel to panel.
template <class V, class Block, int T>
CRIBLE_APART void panel_tile(const MatmulTask& task, const Panel<V>& panel, int64_t first_block, int64_t blocks, int64_t row,
                typename V::Float* sums) {
  const TileRows<V, T> rows(task, row);
  typename V::Float sum[T];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) sum[t] = sums[t];
  for (int64_t i = 0; i < blocks; ++i) {
    panel_sub_blocks<V, Block, T>(sum, panel, i, rows, first_block + i);
    if constexpr (Block::kMinimum) add_minimum<V, T>(sum, panel.minima[i], rows, first_block + i);
  }
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) V::store(sums[t], sum[t]);
}

// --- Many rows, scales unpacked once ------------------------------------------------------------------

template <class V>
struct alignas(64) ScalePanel {
  typename V::Float scales[kScalePanelBlocks];
  typename V::Float minima[kScalePanelBlocks];
};

template <class V, class Block, int T>
CRIBLE_APART void scaled_tile(const MatmulTask& task, const ScalePanel<V>& panel, const std::byte* group, int64_t first_block,
                              int64_t blocks, int64_t row, typename V::Float* sums) {
  constexpr int64_t kStride = Block::kUnitBytes / Block::kUnitBlocks;
  const TileRows<V, T> rows(task, row);
  typename V::Float sum[T];
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) sum[t] = sums[t];
  const bool from_memory = row == task.row_begin;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = first_block + i, j = b % Block::kUnitBlocks;
    const std::byte* unit = group + b / Block::kUnitBlocks * Block::kUnitBytes;
    if (from_memory) prefetch<V, kStride>(unit + j * kStride + kPrefetchBytes);
    Dots<V, T> dots;
    start_sub_block<V, Block, T>(dots, rows, b, 0);
    dot_steps<V, Block, T, 0, kStepsPerBlock>(dots, unit + Block::kHeaderBytes + j * Block::kBlockBytes, rows, b * kQuantBlock);
    finish_sub_block<V, T>(sum, dots, panel.scales[i], rows, b);
    add_minimum<V, T>(sum, panel.minima[i], rows, b);
  }
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) V::store(sums[t], sum[t]);
}

// --- Tasks ------------------------------------------------------------------------------------------

template <class V, class Block, int T>
CRIBLE_INLINE void run_panel_rows(const MatmulTask& task, const Panel<V>& panel, int64_t first, int64_t blocks, int64_t row,
                                  int64_t count, typename V::Float* sums) {
  if constexpr (T > 1) {
    if (count < T) return run_panel_rows<V, Block, T - 1>(task, panel, first, blocks, row, count, sums);
  }
  panel_tile<V, Block, T>(task, panel, first, blocks, row, sums);
}

template <class V, class Block>
void run_panels(const MatmulTask& task, int64_t g) {
  const std::byte* group = task.weights + g * task.group_bytes;
  const int64_t blocks = task.columns / kQuantBlock;
  const int64_t count = task.row_end - task.row_begin;
  Panel<V> panel;
  typename V::Float sums[kMaxTaskRows];
  for (int64_t i = 0; i < count; ++i) V::store(sums[i], V::zero_float());
  for (int64_t first = 0; first < blocks; first += kPanelBlocks) {
    const int64_t n = blocks - first < kPanelBlocks ? blocks - first : kPanelBlocks;
    unpack_panel<V, Block>(panel, group, first, n);
    for (int64_t done = 0; done < count; done += V::kTileRows) {
      run_panel_rows<V, Block, V::kTileRows>(task, panel, first, n, task.row_begin + done, count - done, sums + done);
    }
  }
  for (int64_t i = 0; i < count; ++i) V::store_row(task, task.row_begin + i, g * kPackRows, sums[i]);
}

template <class V, class Block, int T>
CRIBLE_INLINE void run_scaled_rows(const MatmulTask& task, const ScalePanel<V>& panel, const std::byte* group, int64_t first,
                                   int64_t blocks, int64_t row, int64_t count, typename V::Float* sums) {
  if constexpr (T > 1) {
    if (count < T) return run_scaled_rows<V, Block, T - 1>(task, panel, group, first, blocks, row, count, sums);
  }
  scaled_tile<V, Block, T>(task, panel, group, first, blocks, row, sums);
}

template <class V, class Block>
void run_scale_panels(const MatmulTask& task, int64_t g) {
  static_assert(Block::kSubBlocks == 1 && Block::kMinimum);
  const std::byte* group = task.weights + g * task.group_bytes;
  const int64_t blocks = task.columns / kQuantBlock;
  const int64_t count = task.row_end - task.row_begin;
  ScalePanel<V> panel;
  typename V::Float sums[kMaxTaskRows];
  for (int64_t i = 0; i < count; ++i) V::store(sums[i], V::zero_float());
  for (int64_t first = 0; first < blocks; first += kScalePanelBlocks) {
    const int64_t n = blocks - first < kScalePanelBlocks ? blocks - first : kScalePanelBlocks;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t b = first + i, j = b % Block::kUnitBlocks;
      const std::byte* unit = group + b / Block::kUnitBlocks * Block::kUnitBytes;
      V::store(panel.scales[i], Block::scale(unit, j, 0));
      V::store(panel.minima[i], Block::minimum(unit, j));
    }
    for (int64_t done = 0; done < count; done += V::kTileRows) {
      run_scaled_rows<V, Block, V::kTileRows>(task, panel, group, first, n, task.row_begin + done, count - done, sums + done);
    }
  }
  for (int64_t i = 0; i < count; ++i) V::store_row(task, task.row_begin + i, g * kPackRows, sums[i]);
}

template <class V, class Block, int T>
CRIBLE_APART void tile(const MatmulTask& task, const std::byte* group, int64_t row, int64_t n) {
  typename V::Float sum[T];
  if constexpr (requires { Block::kCentre; }) {
    quantised_tile<V, Block, T>(task, group, row, sum);
  } else {
    float_tile<V, Block, T>(task, group, row, sum);
  }
  CRIBLE_UNROLL
  for (int t = 0; t < T; ++t) V::store_row(task, row + t, n, sum[t]);
}

template <class V, class Block, int T>
CRIBLE_INLINE void run_tile_rows(const MatmulTask& task, const std::byte* group, int64_t row, int64_t count, int64_t n) {
  if constexpr (T > 1) {
    if (count < T) return run_tile_rows<V, Block, T - 1>(task, group, row, count, n);
  }
  tile<V, Block, T>(task, group, row, n);
}

// Group by group, so that a group's weights stay in the first-level cache while all rows pass.
template <class V, class Block>
void run(const MatmulTask& task) {
  for (int64_t g = task.group_begin; g < task.group_end; ++g) {
    if constexpr (requires { Block::kCentre; }) {
      if (task.row_end - task.row_begin >= Block::kPanelMinRows) {
        run_panels<V, Block>(task, g);
        continue;
      }
    }
    if constexpr (requires { requires Block::kUnitBlocks > 1 && Block::kMinimum && Block::kPanelMinRows > V::kScalePanelMinRows; }) {
      if (task.row_end - task.row_begin >= V::kScalePanelMinRows) {
        run_scale_panels<V, Block>(task, g);
        continue;
      }
    }
    const std::byte* group = task.weights + g * task.group_bytes;
    for (int64_t row = task.row_begin; row < task.row_end; row += V::kTileRows) {
      run_tile_rows<V, Block, V::kTileRows>(task, group, row, task.row_end - row, g * kPackRows);
    }
  }
}

}  // namespace crible
