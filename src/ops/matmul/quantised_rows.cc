#include "ops/matmul/quantised_rows.h"

#include <algorithm>

#include "base/units.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

constexpr int64_t kAlign = 64;
// Fewer rows are quantised by the caller alone: cheaper than waking a worker.
constexpr int64_t kRowsPerTask = 8;

struct Layout {
  int64_t scales, sums, half_sums, bytes;  // byte offsets of the arrays after the values
};
Layout layout_of(int64_t rows, int64_t columns) {
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
  const QuantiseRowsKernel kernel = quantise_rows_kernel(stream.isa());
  stream.pool().parallel_for(ceil_div(rows, kRowsPerTask), [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerTask;
    kernel(x + begin * x_stride, x_stride, std::min(kRowsPerTask, rows - begin), columns,
           from_row(quantised, begin, columns));
  });
}

}  // namespace crible
