// One instantiation of FlashInfer's FlashAttention-3 (Hopper) paged prefill per head size: BF16, causal.
// Its headers and those of FlashAttention-2 define the same names: never both in one file.
#pragma once

#include <cutlass/numeric_types.h>
#include <flashinfer/attention/mask.cuh>
#include <flashinfer/cutlass_utils.cuh>
#include <flashinfer/attention/hopper/default_params.cuh>
#include <flashinfer/attention/hopper/prefill_sm90.cuh>
#include <flashinfer/attention/hopper/variants.cuh>

#include <exception>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

using Flash3Params =
    flashinfer::BatchPrefillPagedParams<cutlass::bfloat16_t, cutlass::bfloat16_t, cutlass::bfloat16_t, int32_t>;

inline Flash3Params flash3_params(const RunCall& c, const Flash3Plan& p) {
  const auto at = [&](int64_t offset) { return reinterpret_cast<int32_t*>(static_cast<char*>(c.schedule) + offset); };
  CHECK(c.cache.type == KvType::kBf16, "this kernel reads BF16");
  Flash3Params params{};
  params.q_ptr = reinterpret_cast<cutlass::bfloat16_t*>(const_cast<__nv_bfloat16*>(c.q));
  params.k_ptr = static_cast<cutlass::bfloat16_t*>(c.cache.k);
  params.v_ptr = static_cast<cutlass::bfloat16_t*>(c.cache.v);
  params.o_ptr = reinterpret_cast<cutlass::bfloat16_t*>(c.out);
  params.qo_tile_indices = at(p.qo_tile_indices_offset);
  params.qo_indptr = at(p.qo_indptr_offset);
  params.kv_indptr = at(p.kv_indptr_offset);
  params.kv_indices = const_cast<int32_t*>(c.kv_blocks);
  params.qo_lens = at(p.qo_len_offset);
  params.kv_lens = at(p.kv_len_offset);
  params.head_indices = at(p.head_indices_offset);
  params.work_indptr = at(p.work_indptr_offset);
  params.batch_indices = at(p.batch_indices_offset);
  params.additional_params.sm_scale = c.shape.scale;
  params.q_stride_n = c.q_stride;
  params.q_stride_h = c.shape.head_size;
  params.o_stride_n = c.shape.heads * c.shape.head_size;
  params.o_stride_h = c.shape.head_size;
  params.k_stride_n = params.v_stride_n = c.shape.head_size;
  params.k_stride_h = params.v_stride_h = c.shape.block_size * c.shape.head_size;
  params.k_page_stride = params.v_page_stride = c.cache.block_stride;
  params.nnz_qo = c.first_row + c.num_rows;
  params.num_qo_heads = static_cast<int>(c.shape.heads);
  params.num_kv_heads = static_cast<int>(c.shape.kv_heads);
  params.group_size = static_cast<int>(c.shape.heads / c.shape.kv_heads);
  params.page_size = static_cast<int>(c.shape.block_size);
  params.window_left = -1;
  params.causal = true;
  return params;
}

template <uint32_t kHeadSize>
Status flash3_run(const RunCall& c, const Flash3Plan& p, cudaStream_t stream) {
  Flash3Params params = flash3_params(c, p);
  try {
    return status_of(
        flashinfer::BatchPrefillWithPagedKVCacheDispatched<
            kHeadSize, kHeadSize, flashinfer::MaskMode::kCausal, /*LEFT_SLIDING_WINDOW=*/false,
            /*SAME_SCHEDULE_FOR_ALL_HEADS=*/false, flashinfer::StandardAttention>(params, /*enable_pdl=*/false, stream),
        "attention");
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInternal, "attention: {}", e.what());
  }
}

}  // namespace crible::cuda
