// How row-wise ops share their rows among the stream's threads: in pieces large enough to be worth
// waking a thread for; small calls stay on the caller.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "device/stream.h"

namespace crible {

// Calls body(begin, end) for disjoint ranges that cover [0, rows).
template <typename Body>
void for_row_chunks(Stream& stream, int64_t rows, int64_t elements_per_row, const Body& body) {
  constexpr int64_t kElementsPerTask = 16 * 1024;
  const int64_t rows_per_task = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, elements_per_row));
  stream.pool().parallel_for(ceil_div(rows, rows_per_task), [&](int64_t task, int) {
    const int64_t begin = task * rows_per_task;
    body(begin, std::min(rows, begin + rows_per_task));
  });
}

}  // namespace crible
