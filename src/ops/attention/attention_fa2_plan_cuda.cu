// FlashInfer's planners: which block of the grid does which part of which sequence.
#include <flashinfer/attention/scheduler.cuh>

#include <exception>

#include "device/cuda/cuda_status.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

Status flash2_plan(const PlanCall& c, cudaStream_t stream, Flash2Plan* plan) {
  flashinfer::PrefillPlanInfo info;
  // The planner does not write through these two.
  int32_t* query_start = const_cast<int32_t*>(c.query_start);
  int32_t* kv_start = const_cast<int32_t*>(c.kv_start);
  try {
    CRIBLE_RETURN_IF_ERROR(status_of(
        flashinfer::PrefillPlan<int32_t>(
            c.partial, static_cast<size_t>(c.partial_bytes), c.schedule, c.staging,
            static_cast<size_t>(c.schedule_bytes), info, query_start, kv_start, static_cast<uint32_t>(c.num_rows),
            static_cast<uint32_t>(c.num_sequences), static_cast<uint32_t>(c.shape.heads),
            static_cast<uint32_t>(c.shape.kv_heads), static_cast<uint32_t>(c.shape.head_size),
            static_cast<uint32_t>(c.shape.head_size), static_cast<uint32_t>(c.shape.block_size), c.graph,
            /*sizeof_dtype_o=*/2, /*window_left=*/-1, /*fixed_split_size=*/-1, /*disable_split_kv=*/false,
            /*num_colocated_ctas=*/0, /*uniform_q_len=*/c.graph ? 1 : 0, stream),
        "plan attention"));
  } catch (const std::exception& e) {
    return fail(ErrorCode::kResourceExhausted, "plan attention over {} sequences: {}", c.num_sequences, e.what());
  }
  *plan = {.padded_batch_size = info.padded_batch_size,
           .total_num_rows = info.total_num_rows,
           .total_num_rows_offset = info.total_num_rows_offset,
           .cta_tile_q = info.cta_tile_q,
           .request_indices_offset = info.request_indices_offset,
           .qo_tile_indices_offset = info.qo_tile_indices_offset,
           .kv_tile_indices_offset = info.kv_tile_indices_offset,
           .merge_indptr_offset = info.merge_indptr_offset,
           .o_indptr_offset = info.o_indptr_offset,
           .kv_chunk_size_ptr_offset = info.kv_chunk_size_ptr_offset,
           .v_offset = info.v_offset,
           .s_offset = info.s_offset,
           .block_valid_mask_offset = info.block_valid_mask_offset,
           .graph = info.enable_cuda_graph,
           .split = info.split_kv};
  return {};
}

Status flash3_plan(const PlanCall& c, cudaStream_t stream, Flash3Plan* plan) {
  flashinfer::PrefillPlanSM90Info info;
  int32_t* query_start = const_cast<int32_t*>(c.query_start);
  int32_t* kv_start = const_cast<int32_t*>(c.kv_start);
  int32_t* context_length = const_cast<int32_t*>(c.context_length);
  try {
    CRIBLE_RETURN_IF_ERROR(status_of(
        flashinfer::PrefillSM90Plan<int32_t>(
            c.partial, static_cast<size_t>(c.partial_bytes), c.schedule, c.staging,
            static_cast<size_t>(c.schedule_bytes), info, query_start, kv_start, context_length,
            static_cast<uint32_t>(c.num_rows), static_cast<uint32_t>(c.num_sequences),
            static_cast<uint32_t>(c.shape.heads), static_cast<uint32_t>(c.shape.kv_heads),
            static_cast<uint32_t>(c.shape.head_size), static_cast<uint32_t>(c.shape.head_size),
            static_cast<uint32_t>(c.shape.block_size), /*causal=*/true, /*enable_cuda_graph=*/false,
            /*sizeof_dtype_o=*/2, stream),
        "plan attention"));
  } catch (const std::exception& e) {
    return fail(ErrorCode::kResourceExhausted, "plan attention over {} sequences: {}", c.num_sequences, e.what());
  }
  // Its other schedule begins at half a million queries.
  CHECK(!info.same_schedule_for_all_heads, "{} queries in one step", c.num_rows);
  *plan = {.qo_tile_indices_offset = info.qo_tile_indices_offset,
           .qo_indptr_offset = info.qo_indptr_offset,
           .kv_indptr_offset = info.kv_indptr_offset,
           .qo_len_offset = info.qo_len_offset,
           .kv_len_offset = info.kv_len_offset,
           .head_indices_offset = info.head_indices_offset,
           .work_indptr_offset = info.work_indptr_offset,
           .batch_indices_offset = info.batch_indices_offset};
  return {};
}

}  // namespace crible::cuda
