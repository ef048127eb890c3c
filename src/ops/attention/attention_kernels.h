// The inside of attention: one tile of 32 keys against a few query rows, per instruction set.
//
// Arithmetic, the same in every kernel, so that all agree bit for bit. score = Σ q·k by fused
// multiply-add over the head's elements in ascending order. The running maximum is updated once a
// tile; p = exponential(score - maximum); p is added to eight partial sums (key modulo 8, ascending
// keys); out = out · factor, then out = fma(p, v, out) over the tile's keys in ascending order.
// Only keys that a row may see take part: nothing else can reach its result, not even as 0 · x.
#pragma once

#include <cstdint>

namespace crible {

inline constexpr int64_t kKeyTile = 32;
inline constexpr int64_t kSumLanes = 8;

// One block's share of a tile, from one KV head.
struct KeySegment {
  const void* k;        // first key's first element in [head_size, block_size]
  const void* v;        // first key's row in [block_size, head_size]
  int64_t block_size;
  int64_t head_size;
  int64_t first;        // place in the tile, a multiple of 8
  int64_t keys;         // keys to take; K is read to the next multiple of 8
  float* k_tile;        // [head_size, kKeyTile]
  float* v_tile;        // [kKeyTile, head_size]
};

struct AttendArgs {
  const float* q;       // [rows, head_size], already scaled
  const float* k_tile;
  const float* v_tile;
  int64_t rows;
  int64_t head_size;
  int64_t keys;         // visible keys of this tile, 1 to kKeyTile, the same for all rows
  float* maximum;       // [rows]
  float* sum;           // [rows, kSumLanes]
  float* out;           // [rows, head_size], not yet divided by the sum
};

struct AttentionKernels {
  void (*load_f16)(const KeySegment& segment);
  void (*load_f32)(const KeySegment& segment);
  void (*attend)(const AttendArgs& args);
};

const AttentionKernels& attention_kernels_scalar();
#if defined(__x86_64__)
const AttentionKernels& attention_kernels_avx2();
#endif

}  // namespace crible
