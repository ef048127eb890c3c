// The rows of a batch in the form that sample_cuda.h reads: an array of its SampleRow, and behind it the
// lists of those that have adjustments. A batch without adjustments is the array alone. On the host;
// allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/sample/history_slots.h"
#include "ops/sample/sample.h"

namespace crible::cuda {

struct PackedRows {
  int64_t rows = 0;      // how many of the given ones, from the first on, found room
  int64_t bytes = 0;     // used of the target
  int64_t lists_at = 0;  // byte of the target: SampleArgs::lists
};

// Room that any single row fits into, and any `rows` whose lists take at most list_bytes together.
int64_t packed_rows_bytes(int64_t rows, int64_t vocabulary, int64_t list_bytes);

// places: where the rows' histories are kept, one a row, or none at all; the seen of a history that the device has
// already are left out. target: 8-byte aligned, of at least packed_rows_bytes(rows.size(), vocabulary, 0). CHECKs that
// a list holds no more than the vocabulary does, and a mask exactly its bits.
PackedRows pack_rows(std::span<const crible::SampleRow> rows, std::span<const HistoryPlace> places,
                     int64_t vocabulary, std::span<std::byte> target);

}  // namespace crible::cuda
