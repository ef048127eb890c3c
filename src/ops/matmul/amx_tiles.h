// Products of many rows by tile registers (AMX), 16 weight rows × 16 activation rows × one sub-block at a time. For files
// compiled with -mamx-tile -mamx-int8 and AVX-512, reached only behind cpu_features.h, which also asks the kernel of the
// operating system for the tiles.
//
// Tiles multiply bytes, activations have 16 bits: a = 256 · high + low with high signed and low unsigned, so that
// Σ a·w = 256 · Σ high·w + Σ low·w, both exact in 32 bits. What follows a sub-block's sum is the arithmetic of
// matmul_kernels.h in its order, so the results are those of every other kernel, bit for bit.
//
// Activations come as quantise_rows_amx.cc leaves them: for 16 rows and each block 512 high bytes [row, 32] and 512 low
// bytes, in the order of the packed weights' bytes. Rows that fill up the last 16 hold anything; nothing is read from
// their results.
#pragma once

#include "ops/matmul/lanes_avx512.h"

namespace crible {
namespace {

inline constexpr int64_t kHighBytes = kRowTile * kQuantBlock;     // of one block, before its low bytes
inline constexpr int64_t kActivationBytes = 2 * kHighBytes;       // of one block of 16 rows
inline constexpr int64_t kChunkBlocks = 16;                       // unpacked for all rows: 12 KiB
inline constexpr int kStepBytes = 64;

// What is multiplied under which register: the numbers must be constants.
#define CRIBLE_TILE_HIGH_SUMS 0
#define CRIBLE_TILE_LOW_SUMS 1
#define CRIBLE_TILE_WEIGHTS 2
#define CRIBLE_TILE_HIGH 3
#define CRIBLE_TILE_LOW 4

// The layout that LDTILECFG reads (Intel's manual, volume 1, chapter 18).
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

// depth: elements of a sub-block.
inline void load_tile_shapes(int depth) {
  TileShapes shapes;
  const auto shape = [&](int tile, int rows, int row_bytes) {
    shapes.rows[tile] = static_cast<uint8_t>(rows);
    shapes.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
  };
  shape(CRIBLE_TILE_HIGH_SUMS, 16, 64);
  shape(CRIBLE_TILE_LOW_SUMS, 16, 64);
  shape(CRIBLE_TILE_WEIGHTS, depth / 4, 64);
  shape(CRIBLE_TILE_HIGH, 16, depth);
  shape(CRIBLE_TILE_LOW, 16, depth);
  // GCC 12's intrinsic names eight bytes of the operand as read: without this it drops the stores to all others.
  asm volatile("" : : "r"(&shapes) : "memory");
  _tile_loadconfig(&shapes);
}

// A few blocks of one group of weight rows.
template <class Block>
struct alignas(64) Chunk {
  __m512i weights[kChunkBlocks][kStepsPerBlock];  // bytes
  __m512 scales[kChunkBlocks][Block::kSubBlocks];
  __m512 minima[kChunkBlocks];
};

template <class Block, int kStep = 0>
CRIBLE_INLINE void unpack_bytes(__m512i (&weights)[kStepsPerBlock], const std::byte* values) {
  const __m512i bytes = Block::template bytes<kStep>(values);
  weights[kStep] = Block::kCentre == 0 ? bytes : _mm512_sub_epi8(bytes, _mm512_set1_epi8(Block::kCentre));
  if constexpr (kStep + 1 < kStepsPerBlock) unpack_bytes<Block, kStep + 1>(weights, values);
}

template <class Block>
CRIBLE_APART void unpack_chunk(Chunk<Block>& chunk, const std::byte* group, int64_t first_block, int64_t blocks) {
  constexpr int64_t kStride = Block::kUnitBytes / Block::kUnitBlocks;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t b = first_block + i, j = b % Block::kUnitBlocks;
    const std::byte* unit = group + b / Block::kUnitBlocks * Block::kUnitBytes;
    prefetch<Avx512Lanes, kStride>(unit + j * kStride + kPrefetchBytes);
    unpack_bytes<Block>(chunk.weights[i], unit + Block::kHeaderBytes + j * Block::kBlockBytes);
    for (int sub = 0; sub < Block::kSubBlocks; ++sub) chunk.scales[i][sub] = Block::scale(unit, j, sub);
    if constexpr (Block::kMinimum) chunk.minima[i] = Block::minimum(unit, j);
  }
}

// Sums of one sub-block as the tiles leave them: [activation row, weight row].
struct alignas(64) TileSums {
  __m512i high[kRowTile];
  __m512i low[kRowTile];
};

template <class Block>
CRIBLE_INLINE void multiply_sub_block(TileSums& sums, const __m512i (&weights)[kStepsPerBlock], const std::byte* activations,
                                      int64_t sub) {
  constexpr int64_t kDepth = kQuantBlock / Block::kSubBlocks;
  _tile_zero(CRIBLE_TILE_HIGH_SUMS);
  _tile_zero(CRIBLE_TILE_LOW_SUMS);
  _tile_loadd(CRIBLE_TILE_WEIGHTS, weights + sub * (kDepth / 4), kStepBytes);
  _tile_loadd(CRIBLE_TILE_HIGH, activations + sub * kDepth, kQuantBlock);
  _tile_dpbssd(CRIBLE_TILE_HIGH_SUMS, CRIBLE_TILE_HIGH, CRIBLE_TILE_WEIGHTS);
  _tile_loadd(CRIBLE_TILE_LOW, activations + kHighBytes + sub * kDepth, kQuantBlock);
  _tile_dpbusd(CRIBLE_TILE_LOW_SUMS, CRIBLE_TILE_LOW, CRIBLE_TILE_WEIGHTS);
  _tile_stored(CRIBLE_TILE_HIGH_SUMS, sums.high, kStepBytes);
  _tile_stored(CRIBLE_TILE_LOW_SUMS, sums.low, kStepBytes);
}

// Into the accumulators of 16 rows, whose scales and sums lie `blocks` apart.
template <class Block>
CRIBLE_INLINE void add_sub_block(__m512 (&sum)[kRowTile], const TileSums& sums, const Chunk<Block>& chunk, int64_t i,
                                 int64_t sub, const float* scales, const float* row_sums, int64_t blocks) {
  const __m512 weight_scale = chunk.scales[i][sub];
  CRIBLE_UNROLL
  for (int t = 0; t < kRowTile; ++t) {
    const __m512i total = _mm512_add_epi32(_mm512_slli_epi32(sums.high[t], 8), sums.low[t]);
    const __m512 scale = _mm512_mul_ps(weight_scale, _mm512_set1_ps(scales[t * blocks]));
    sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), scale, sum[t]);
  }
  if constexpr (Block::kMinimum) {
    CRIBLE_UNROLL
    for (int t = 0; t < kRowTile; ++t) {
      sum[t] = _mm512_fmadd_ps(chunk.minima[i], _mm512_set1_ps(row_sums[t * blocks]), sum[t]);
    }
  }
}

// 16 rows from `row` on. The sums of one sub-block are taken while the tiles multiply the next.
template <class Block>
CRIBLE_APART void multiply_chunk(const MatmulTask& task, const Chunk<Block>& chunk, int64_t first_block, int64_t chunk_blocks,
                                 int64_t row, __m512* sums) {
  const int64_t blocks = task.columns / kQuantBlock;
  const std::byte* activations =
      reinterpret_cast<const std::byte*>(task.quantised.values + row * task.columns) + first_block * kActivationBytes;
  const float* scales = task.quantised.scales + row * blocks + first_block;
  const float* row_sums = task.quantised.sums + row * blocks + first_block;
  __m512 sum[kRowTile];
  CRIBLE_UNROLL
  for (int t = 0; t < kRowTile; ++t) sum[t] = sums[t];
  TileSums tile_sums[2];
  const int64_t count = chunk_blocks * Block::kSubBlocks;
  multiply_sub_block<Block>(tile_sums[0], chunk.weights[0], activations, 0);
  for (int64_t s = 0; s < count; ++s) {
    const int64_t next = s + 1, i = s / Block::kSubBlocks;
    if (next < count) {
      const int64_t next_block = next / Block::kSubBlocks;
      multiply_sub_block<Block>(tile_sums[next % 2], chunk.weights[next_block], activations + next_block * kActivationBytes,
                                next % Block::kSubBlocks);
    }
    add_sub_block<Block>(sum, tile_sums[s % 2], chunk, i, s % Block::kSubBlocks, scales + i, row_sums + i, blocks);
  }
  CRIBLE_UNROLL
  for (int t = 0; t < kRowTile; ++t) sums[t] = sum[t];
}

template <class Block>
void run_amx(const MatmulTask& task) {
  const int64_t blocks = task.columns / kQuantBlock, count = task.row_end - task.row_begin;
  Chunk<Block> chunk;
  __m512 sums[kMaxTaskRows];
  load_tile_shapes(kQuantBlock / Block::kSubBlocks);
  for (int64_t g = task.group_begin; g < task.group_end; ++g) {
    const std::byte* group = task.weights + g * task.group_bytes;
    for (int64_t t = 0; t < kMaxTaskRows; ++t) sums[t] = _mm512_setzero_ps();
    for (int64_t first = 0; first < blocks; first += kChunkBlocks) {
      const int64_t n = blocks - first < kChunkBlocks ? blocks - first : kChunkBlocks;
      unpack_chunk<Block>(chunk, group, first, n);
      for (int64_t done = 0; done < count; done += kRowTile) {
        multiply_chunk<Block>(task, chunk, first, n, task.row_begin + done, sums + done);
      }
    }
    for (int64_t t = 0; t < count; ++t) Avx512Lanes::store_row(task, task.row_begin + t, g * kPackRows, sums[t]);
  }
  _tile_release();  // registers in use make every switch of threads dearer
}

}  // namespace
}  // namespace crible
