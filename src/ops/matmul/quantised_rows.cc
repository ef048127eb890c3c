#include "ops/matmul/quantised_rows.h"

#include <algorithm>
#include <bit>

#include "base/units.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

constexpr int64_t kAlign = 64;
// Up to as many rows are quantised by the caller alone: cheaper than waking a worker.
constexpr int64_t kRowsAlone = 8;
constexpr int64_t kMinRowsPerTask = 2;

struct Layout {
  int64_t scales, sums, half_sums, bytes;  // byte offsets of the arrays after the values
};
Layout layout_of(int64_t wanted_rows, int64_t columns) {
  const int64_t rows = round_up(wanted_rows, kRowTile);  // tile registers read whole tiles
  const int64_t per_block = round_up(rows * (columns / kQuantBlock) * 4, kAlign);
  const int64_t scales = round_up(rows * columns * 2, kAlign);
  return {scales, scales + per_block, scales + 2 * per_block, scales + 4 * per_block};
}

}  // namespace

int64_t quantised_rows_bytes(int64_t rows, int64_t columns) { return layout_of(rows, columns).bytes; }

QuantisedRows place_quantised_rows(std::byte* memory, int64_t rows, int64_t columns) {
  const Layout layout = layout_of(rows, columns);
  return {reinterpret_cast<int16_t*>(memory), reinterpret_cast<float*>(memory + layout.scales),
          reinterpret_cast<float*>(memory + layout.sums), reinterpret_cast<int32_t*>(memory + layout.half_sums)};
}

QuantisedRows from_row(const QuantisedRows& rows, int64_t first, int64_t columns) {
  const int64_t block = first * (columns / kQuantBlock);
  return {rows.values + first * columns, rows.scales + block, rows.sums + block, rows.half_sums + 2 * block};
}

void quantise_rows(Stream& stream, const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                   const QuantisedRows& quantised) {
  quantise_rows(stream, x, x_stride, rows, columns, quantised, matmul_method(stream.isa(), DType::kQ8_0, 1));
}

void quantise_rows(Stream& stream, const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                   const QuantisedRows& quantised, const MatmulMethod& method) {
  // A power of two, so that no task reaches into two tiles.
  static_assert(kRowTile % kRowsAlone == 0 && kRowsAlone % kMinRowsPerTask == 0);
  const auto share = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(ceil_div(rows, int64_t{stream.threads()}))));
  const int64_t per_task = rows <= kRowsAlone ? kRowsAlone : std::clamp(share, kMinRowsPerTask, kRowsAlone);
  stream.pool().parallel_for(ceil_div(rows, per_task), [&](int64_t task, int) {
    const int64_t begin = task * per_task;
    QuantisedRows own = from_row(quantised, begin, columns);
    if (method.in_tiles) own.values += begin % kRowTile * (kQuantBlock / 2 - columns);  // bytes of the tile's first block
    method.quantise(x + begin * x_stride, x_stride, std::min(per_task, rows - begin), columns, own);
  });
}

}  // namespace crible
