// The schedule of the attention kernel whose result for a query is the same, bit for bit, whatever stands
// beside it in the step: no context is split, and every tile of every height visits keys in steps of 64 from
// position 0 on. It replaces FlashInfer's planner, which chooses by the batch.
#pragma once

#include <cstdint>
#include <span>

#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

// One entry per tile of each sequence's packed rows (queries · query heads per KV head), longest context
// first, as the multiprocessors take them in this order.
struct FixedSchedule {
  std::span<int32_t> sequences;  // [tiles]
  std::span<int32_t> tiles;      // [tiles] index within the sequence
};

// Rows of a tile: 16 where each sequence has at most that many, else 64 or 128.
int64_t fixed_tile_rows(const AttentionShape& shape, KvType type, std::span<const int32_t> query_start);
int64_t count_fixed_tiles(const AttentionShape& shape, int64_t tile_rows,
                          std::span<const int32_t> query_start);
// Fills both spans, of count_fixed_tiles() entries.
void fill_fixed_schedule(const AttentionShape& shape, int64_t tile_rows, std::span<const int32_t> query_start,
                         const FixedSchedule& schedule);

// As flash2_plan(), for flash2_run_fixed_*.
Status flash2_fixed_plan(const PlanCall& call, KvType type, cudaStream_t stream, Flash2Plan* plan);

}  // namespace crible::cuda
