#include "ops/attention/fixed_schedule_cuda.h"

#include <algorithm>
#include <cstring>

#include "base/units.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {
namespace {

int64_t packed_rows(const AttentionShape& shape, std::span<const int32_t> query_start, size_t sequence) {
  return (query_start[sequence + 1] - query_start[sequence]) * (shape.heads / shape.kv_heads);
}

}  // namespace

int64_t fixed_tile_rows(const AttentionShape& shape, KvType type, std::span<const int32_t> query_start) {
  int64_t most = 0;
  for (size_t s = 0; s + 1 < query_start.size(); ++s) {
    most = std::max(most, packed_rows(shape, query_start, s));
  }
  // A tile of 16 rows unpacks FP8 in another order.
  if (most <= 16 && type == KvType::kBf16) return 16;
  return most <= 64 ? 64 : 128;
}

int64_t count_fixed_tiles(const AttentionShape& shape, int64_t tile_rows,
                          std::span<const int32_t> query_start) {
  int64_t count = 0;
  for (size_t s = 0; s + 1 < query_start.size(); ++s) {
    count += ceil_div(packed_rows(shape, query_start, s), tile_rows);
  }
  return count;
}

void fill_fixed_schedule(const AttentionShape& shape, int64_t tile_rows, std::span<const int32_t> query_start,
                         const FixedSchedule& schedule) {
  size_t next = 0;
  for (size_t s = 0; s + 1 < query_start.size(); ++s) {
    for (int64_t tile = ceil_div(packed_rows(shape, query_start, s), tile_rows); tile-- > 0;) {
      schedule.sequences[next] = static_cast<int32_t>(s);
      schedule.tiles[next++] = static_cast<int32_t>(tile);
    }
  }
}

Status flash2_fixed_plan(const PlanCall& c, KvType type, cudaStream_t stream, Flash2Plan* plan) {
  const auto sequences = static_cast<size_t>(c.num_sequences);
  const std::span<const int32_t> query_start(c.query_start, sequences + 1);
  const int64_t rows = fixed_tile_rows(c.shape, type, query_start);
  const int64_t tiles = count_fixed_tiles(c.shape, rows, query_start);
  int64_t ints = 0;
  const auto place = [&](int64_t count) {
    const int64_t start = ints;
    ints += round_up(count, int64_t{4});
    return start * 4;
  };
  *plan = {.padded_batch_size = tiles, .total_num_rows = c.num_rows, .cta_tile_q = rows};
  plan->request_indices_offset = place(tiles);
  plan->qo_tile_indices_offset = place(tiles);
  plan->kv_tile_indices_offset = place(tiles);
  plan->o_indptr_offset = place(c.num_sequences + 1);
  plan->kv_chunk_size_ptr_offset = place(1);
  if (ints * 4 > c.schedule_bytes) {
    return fail(ErrorCode::kResourceExhausted, "plan attention: {} tiles need {} of {} bytes", tiles,
                ints * 4, c.schedule_bytes);
  }
  const auto at = [&](int64_t offset) {
    return reinterpret_cast<int32_t*>(static_cast<std::byte*>(c.staging) + offset);
  };
  fill_fixed_schedule(c.shape, rows, query_start,
                      {.sequences = {at(plan->request_indices_offset), static_cast<size_t>(tiles)},
                       .tiles = {at(plan->qo_tile_indices_offset), static_cast<size_t>(tiles)}});
  std::fill_n(at(plan->kv_tile_indices_offset), tiles, 0);
  for (size_t s = 0; s <= sequences; ++s) at(plan->o_indptr_offset)[s] = query_start[s] - query_start[0];
  *at(plan->kv_chunk_size_ptr_offset) = INT32_MAX;
  return status_of(
      cudaMemcpyAsync(c.schedule, c.staging, static_cast<size_t>(ints * 4), cudaMemcpyHostToDevice, stream),
      "send the schedule of attention");
}

}  // namespace crible::cuda
