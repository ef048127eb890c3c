// The inside of attention: one tile of 32 keys against a few query rows, per instruction set.
//
// Arithmetic, the same in every kernel, so that all agree bit for bit. score = Σ q·k by fused
// multiply-add over the head's elements in ascending order, times the key's scale if the cache holds
// integers, then capped if asked. The running maximum is updated once a tile; p = exponential(score - maximum);
// p is added to eight partial sums (key modulo 8, ascending keys); out = out · factor, then
// out = fma(p, v, out) over the tile's keys in ascending order, with p times the value's scale for integers.
// Only keys that a row may see take part: nothing else can reach its result, not even as 0 · x.
#pragma once

#include <cstdint>

namespace crible {

inline constexpr int64_t kKeyTile = 32;
inline constexpr int64_t kKeyGroup = 8;  // keys that always share a block
inline constexpr int64_t kTileGroups = kKeyTile / kKeyGroup;
inline constexpr int64_t kSumLanes = 8;

// Where the keys and values of a tile, of one KV head, lie in the cache. Groups that hold no visible
// key repeat the place of one that does.
struct KeyTile {
  const void* k[kTileGroups];  // the group's first key's first element in [head_size, block_size]
  const void* v[kTileGroups];  // the group's first key's row in [block_size, head_size]
  const float* k_scale[kTileGroups];  // of the group's eight keys; null unless the cache holds integers
  const float* v_scale[kTileGroups];
  int64_t block_size;
  int64_t head_size;
  int64_t first_group;  // groups [first_group, end_group) hold visible keys
  int64_t end_group;
};

struct AttendArgs {
  const float* q;       // [rows, head_size], already scaled
  int64_t rows;
  int64_t head_size;
  int64_t first;        // visible keys of this tile: [first, keys), the same for all rows
  int64_t keys;         // 1 to kKeyTile
  float softcap;        // 0: none
  float* score;         // [rows, kKeyTile], working memory
  float* maximum;       // [rows]
  float* sum;           // [rows, kSumLanes]
  float* out;           // [rows, head_size], not yet divided by the sum
};

// For one cache type.
struct CacheKernels {
  // Converts groups [first_group, end_group), not yet scaled, to k_tile [head_size, kKeyTile] and v_tile
  // [kKeyTile, head_size].
  void (*load)(const KeyTile& tile, float* k_tile, float* v_tile);
  // Attends straight to the cache, converting on the way: cheaper for few rows. `next` is fetched ahead.
  void (*attend)(const AttendArgs& args, const KeyTile& tile, const KeyTile& next);
};

struct AttentionKernels {
  CacheKernels f32, f16, bf16, i8;
  void (*attend)(const AttendArgs& args, const KeyTile& tile, const float* k_tile, const float* v_tile);
};

const AttentionKernels& attention_kernels_scalar();
#if defined(__x86_64__)
const AttentionKernels& attention_kernels_avx2();
const AttentionKernels& attention_kernels_avx512();  // head sizes in multiples of 16
#endif

}  // namespace crible
