// Mixture of experts on the GPU: the router's choice, the experts' gated feed-forward on the rows that chose
// them, and the weighted sum. As ops/moe/moe.h defines it for the CPU; activations BF16, weights BF16 or FP8
// E4M3 with a float32 scale per row, sums in float32. The router's own matrix is an ordinary product before
// this.
//
// A slot is one row's use of one expert. Slots are grouped by expert on the device, so that nothing waits for
// the host and a step can be captured; each group is cut into tiles that share one pass over the expert's
// weights. Reads each active expert's weights once per tile; computes 6·rows·k·C·F operations. Row r of the
// result depends on row r of x alone, bit for bit: the order of slots within an expert is arbitrary, and no
// sum crosses slots. Limits: up to 512 experts and 16 per token; C a multiple of 256, F of 128.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {

struct ExpertSizes {
  int64_t experts = 0;
  int64_t experts_per_token = 0;  // k
  int64_t columns = 0;            // C, of x
  int64_t hidden = 0;             // F
};

// Why the GPU has no mixture of these sizes; OK if it has.
Status experts_fit(const ExpertSizes& sizes);

// Working memory of one mixture, used by one layer after the other.
struct ExpertRoom {
  int32_t* counts;       // [experts] slots; zero between steps
  int32_t* ranks;        // [slots] place within its expert
  int32_t* places;       // [slots] place among all, in the order of experts
  int32_t* rows;         // [slots] by place: the row of x
  int32_t* tile_expert;  // [tiles]
  int32_t* tile_begin;   // [tiles] first place
  int32_t* tile_end;     // [tiles]
  int32_t* tile_count;   // [1]
  int32_t* chosen;       // [slots]
  float* weights;        // [slots]
  __nv_bfloat16* gated;  // [slots, hidden] by place
  uint8_t* gated_fp8;    // [slots, hidden]
  float* gated_scale;    // [slots]
  __nv_bfloat16* out;    // [slots, columns] by place
};
ExpertRoom lay_out_experts(DeviceArena& arena, const ExpertSizes& sizes, int64_t max_rows);
// Once, before the first use.
Status clear_experts(const CudaStream& stream, const ExpertRoom& room, const ExpertSizes& sizes);

// softmax over all experts' logits, then the k largest, largest first; of equal ones the lower index first. A
// row with a logit that is not finite gets weights of NaN. normalise: the k weights add up to 1.
void route_to_experts(const CudaStream& stream, const ExpertSizes& sizes, const float* logits, int64_t rows,
                      bool normalise, const ExpertRoom& room);

// All that precedes the experts' products, for a few rows, in one kernel: norm, router's product, choice,
// grouping. A cluster of sixteen blocks shares the experts; the first one chooses. The router's rows are
// requested before the kernel before this one has ended. Sums are taken in another order than by the router's
// product and route_to_experts().
struct ChooseArgs {
  ExpertSizes sizes;
  int rows = 1;
  const __nv_bfloat16* residual = nullptr;     // [rows, C]
  const __nv_bfloat16* norm_weight = nullptr;  // [C]
  float epsilon = 0;
  const __nv_bfloat16* router = nullptr;  // [experts, C]
  bool normalise = true;
  __nv_bfloat16* normed = nullptr;  // [rows, C]
  uint8_t* quantised = nullptr;     // FP8 instead, where not null, with
  float* scales = nullptr;          // [rows]
};
bool choose_experts_fits(const ExpertSizes& sizes, int64_t rows);
void choose_experts(const CudaStream& stream, const ChooseArgs& args, const ExpertRoom& room);

struct ExpertsArgs {
  ExpertSizes sizes;
  int64_t rows = 0;
  WeightType type = WeightType::kBf16;
  const void* x = nullptr;               // [rows, C] BF16 or FP8, as the weights
  const float* x_scale = nullptr;        // [rows], FP8 only
  const void* gate_up = nullptr;         // [experts][gate's F rows, up's F rows][C]
  const float* gate_up_scale = nullptr;  // FP8: one per row
  const void* down = nullptr;            // [experts][C][F]
  const float* down_scale = nullptr;
  __nv_bfloat16* residual = nullptr;  // [rows, C]: the result is added
  int tile_slots = 0;                 // 8, 32 or 128; 0: by the number of slots per expert
  bool grouped = false;               // by choose_experts()
};

// After route_to_experts() or choose_experts() of the same rows.
void experts_feed_forward(const CudaStream& stream, const ExpertsArgs& args, const ExpertRoom& room);
// Once per process, before capture.
void prepare_experts();

}  // namespace crible::cuda
