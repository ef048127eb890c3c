#include "ops/moe/moe_cuda.h"

#include <algorithm>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/moe/moe_kernels_cuda.h"

namespace crible::cuda {
namespace {

// A tile costs a pass over the expert's weights, a slot of it that stays empty costs nothing but arithmetic.
int tile_for(const ExpertSizes& sizes, int64_t rows) {
  const int64_t per_expert = rows * sizes.experts_per_token / sizes.experts;
  if (per_expert < 6) return 8;
  return per_expert < 48 ? 32 : 128;
}

}  // namespace

ExpertRoom lay_out_experts(DeviceArena& arena, const ExpertSizes& s, int64_t max_rows) {
  const int64_t slots = max_rows * s.experts_per_token;
  const int64_t tiles = most_expert_tiles(slots, s.experts, 8);
  ExpertRoom room;
  room.counts = arena.slice<int32_t>(s.experts);
  room.ranks = arena.slice<int32_t>(slots);
  room.places = arena.slice<int32_t>(slots);
  room.rows = arena.slice<int32_t>(slots);
  room.tile_expert = arena.slice<int32_t>(tiles);
  room.tile_begin = arena.slice<int32_t>(tiles);
  room.tile_end = arena.slice<int32_t>(tiles);
  room.tile_count = arena.slice<int32_t>(1);
  room.chosen = arena.slice<int32_t>(slots);
  room.weights = arena.slice<float>(slots);
  room.gated = arena.slice<__nv_bfloat16>(slots * s.hidden);
  room.gated_fp8 = arena.slice<uint8_t>(slots * s.hidden);
  room.gated_scale = arena.slice<float>(slots);
  room.out = arena.slice<__nv_bfloat16>(slots * s.columns);
  return room;
}

Status clear_experts(const CudaStream& stream, const ExpertRoom& room, const ExpertSizes& sizes) {
  return status_of(
      cudaMemsetAsync(room.counts, 0, static_cast<size_t>(sizes.experts) * sizeof(int32_t), stream.get()),
      "clear the experts' counts");
}

void experts_feed_forward(const CudaStream& stream, const ExpertsArgs& a, const ExpertRoom& room) {
  if (a.rows == 0) return;
  const ExpertSizes& s = a.sizes;
  const int tile = a.grouped ? 8 : a.tile_slots > 0 ? a.tile_slots : tile_for(s, a.rows);
  CHECK(tile == 8 || tile == 32 || tile == 128, "tiles of {} slots", tile);
  const int64_t slots = a.rows * s.experts_per_token;
  const int64_t most_tiles = most_expert_tiles(slots, s.experts, tile);
  if (!a.grouped) group_slots(stream, s, a.rows, tile, room);
  ExpertProduct product = {.x = a.x,
                           .x_scale = a.x_scale,
                           .rows = room.rows,
                           .weight = a.gate_up,
                           .weight_scale = a.gate_up_scale,
                           .counts = a.grouped ? nullptr : room.counts,
                           .experts = static_cast<int>(s.experts),
                           .in_features = static_cast<int>(s.columns),
                           .weight_rows = static_cast<int>(2 * s.hidden),
                           .out = room.gated,
                           .tile_expert = room.tile_expert,
                           .tile_begin = room.tile_begin,
                           .tile_end = room.tile_end,
                           .tile_count = room.tile_count};
  expert_product(stream, a.type, /*gated=*/true, tile, most_tiles, product);
  product.x = room.gated;
  product.x_scale = nullptr;
  product.rows = nullptr;
  product.weight = a.down;
  product.weight_scale = a.down_scale;
  product.counts = nullptr;
  product.in_features = static_cast<int>(s.hidden);
  product.weight_rows = static_cast<int>(s.columns);
  product.out = room.out;
  if (a.type == WeightType::kFp8) {
    quantize_rows(stream, room.gated, slots, s.hidden, {.data = room.gated_fp8, .scale = room.gated_scale});
    product.x = room.gated_fp8;
    product.x_scale = room.gated_scale;
  }
  expert_product(stream, a.type, /*gated=*/false, tile, most_tiles, product);
  add_expert_outputs(stream, s, a.rows, room, a.residual);
}

void prepare_experts() {
  prepare_choose_experts();
  prepare_expert_product();
}

}  // namespace crible::cuda
