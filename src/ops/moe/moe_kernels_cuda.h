// Between the files of the GPU's mixture of experts: how slots are grouped, and the two products over the
// groups.
#pragma once

#include <cstdint>

#include "ops/moe/moe_cuda.h"

namespace crible::cuda {

// The most tiles that the slots can make, whatever the router chooses: each expert's last tile may be short.
int64_t most_expert_tiles(int64_t slots, int64_t experts, int tile_slots);

// places, rows and tiles of the room from chosen, ranks and counts.
void group_slots(const CudaStream& stream, const ExpertSizes& sizes, int64_t rows, int tile_slots,
                 const ExpertRoom& room);

// residual[r] += Σ_j weight · out of slot (r, j), in the order of j.
void add_expert_outputs(const CudaStream& stream, const ExpertSizes& sizes, int64_t rows,
                        const ExpertRoom& room, __nv_bfloat16* residual);

struct ExpertProduct {
  const void* x = nullptr;         // [.., in_features]
  const float* x_scale = nullptr;  // per row of x, FP8 only
  const int32_t* rows = nullptr;   // [slots] row of x by place; null: the place itself
  const void* weight = nullptr;    // [experts · weight_rows, in_features]
  const float* weight_scale = nullptr;
  int32_t* counts = nullptr;  // set to zero for the next use, if not null
  int experts = 0;
  int in_features = 0;
  int weight_rows = 0;           // of one expert: 2F with `gated`, else C
  __nv_bfloat16* out = nullptr;  // [slots, F or C] by place
  const int32_t* tile_expert = nullptr;
  const int32_t* tile_begin = nullptr;
  const int32_t* tile_end = nullptr;
  const int32_t* tile_count = nullptr;
};

// gated: weight holds gate above up, and out is silu(gate) · up.
void expert_product(const CudaStream& stream, WeightType type, bool gated, int tile_slots, int64_t most_tiles,
                    const ExpertProduct& product);
void prepare_expert_product();
void prepare_choose_experts();

}  // namespace crible::cuda
