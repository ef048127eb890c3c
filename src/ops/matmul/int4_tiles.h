// How 4-bit weights lie in device memory, for every kernel that reads them: w[n, k] = (q[n, k] - zero) ·
// scale with a zero point and an FP16 scale per row and group of 32, 64 or 128 neighbours in k.
//
// Tiles of 16 rows, sixteen of them (256 rows) a group of tiles, the last group what is left. A group is cut
// into windows of 128 columns that follow each other; in a window lie the windows of its tiles one after the
// other, so that a block's work is one run of bytes. A tile's window:
//   512 bytes  rows 0 to 7:  lane 4·row + t holds 16 bytes, whose word i is columns 32·i + 8·t to + 7;
//   512 bytes  rows 8 to 15, likewise;
//   per group of the window, 48 bytes: 16 scales and 16 zero points (a byte each), rows 0, 8, 1, 9, 2, ...
// In a word, column e of its eight is nibble e / 2 + 4·(e mod 2): one mask gives a pair of neighbours in the
// two halves of a register. A lane's words are operands of mma.m16n8k16 as they come, read without conflict.
//
// Paired: the rows are a gate matrix above an up matrix; a tile's rows 0 to 7 are of the one, 8 to 15 the
// rows of the other that they meet.
#pragma once

#include <cstdint>

namespace crible::cuda {

inline constexpr int kInt4TileRows = 16;
inline constexpr int kInt4GroupTiles = 16;
inline constexpr int kInt4WindowColumns = 128;
inline constexpr int kInt4WindowNibbleBytes = kInt4TileRows * kInt4WindowColumns / 2;
inline constexpr int kInt4GroupBytes = kInt4TileRows * 3;

constexpr int int4_window_bytes(int64_t group) {
  return kInt4WindowNibbleBytes + kInt4GroupBytes * static_cast<int>(kInt4WindowColumns / group);
}
// Tiles of the group that begins with that tile, of a matrix of `tiles`.
constexpr int64_t int4_tiles_of_group(int64_t first_tile, int64_t tiles) {
  return tiles - first_tile < kInt4GroupTiles ? tiles - first_tile : kInt4GroupTiles;
}
// Which window of the matrix, as they lie, is that window of `windows` of that tile.
constexpr int64_t int4_window_index(int64_t tile, int64_t window, int64_t tiles, int64_t windows) {
  const int64_t first = tile / kInt4GroupTiles * kInt4GroupTiles;
  return first * windows + window * int4_tiles_of_group(first, tiles) + tile - first;
}
constexpr int64_t int4_bytes(int64_t rows, int64_t columns, int64_t group) {
  return rows / kInt4TileRows * (columns / kInt4WindowColumns) * int4_window_bytes(group);
}
// Whether a matrix can lie so. group: inputs to a scale as the checkpoint has them.
constexpr bool int4_fits(int64_t rows, int64_t columns, int64_t group) {
  return rows % kInt4TileRows == 0 && columns % kInt4WindowColumns == 0 && group % 32 == 0;
}
// The group to lay out for a checkpoint's: scales are repeated where its groups are larger or straddle
// windows.
constexpr int int4_stored_group(int64_t group) {
  return group % 128 == 0 ? 128 : group % 64 == 0 ? 64 : 32;
}

struct Int4Matrix {
  uint8_t* tiles = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int group = 128;      // 32, 64 or 128
  bool paired = false;  // gate above up: rows / 2 of each
};

}  // namespace crible::cuda
