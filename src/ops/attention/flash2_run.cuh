// One instantiation of FlashInfer's FlashAttention-2 prefill per head size and type of cache: BF16 queries,
// causal, three tile heights.
#pragma once

#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/mask.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/scheduler.cuh>
#include <flashinfer/attention/variants.cuh>

#include <exception>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

// FlashInfer's variants multiply what they write by a member of this name.
template <typename Kv>
struct Flash2Params : flashinfer::BatchPrefillPagedParams<__nv_bfloat16, Kv, __nv_bfloat16, int32_t> {
  using flashinfer::BatchPrefillPagedParams<__nv_bfloat16, Kv, __nv_bfloat16, int32_t>::BatchPrefillPagedParams;
  float v_scale = 1;
};
using Flash2Variant = flashinfer::DefaultAttention</*use_custom_mask=*/false, /*use_sliding_window=*/false,
                                                   /*use_logits_soft_cap=*/false, /*use_alibi=*/false>;

template <typename Kv>
Flash2Params<Kv> flash2_params(const RunCall& c, const Flash2Plan& p) {
  CHECK(kv_element_bytes(c.cache.type) == sizeof(Kv), "a kernel for another type of cache");
  const auto at = [&](int64_t offset) { return reinterpret_cast<int32_t*>(static_cast<char*>(c.schedule) + offset); };
  const int64_t strides[3] = {c.cache.block_stride, c.shape.block_size * c.shape.head_size, c.shape.head_size};
  flashinfer::paged_kv_t<Kv, int32_t> paged(
      static_cast<uint32_t>(c.shape.kv_heads), static_cast<uint32_t>(c.shape.block_size),
      static_cast<uint32_t>(c.shape.head_size), static_cast<uint32_t>(c.num_sequences), flashinfer::QKVLayout::kHND,
      static_cast<Kv*>(c.cache.k), static_cast<Kv*>(c.cache.v), strides, const_cast<int32_t*>(c.kv_blocks), const_cast<int32_t*>(c.kv_start),
      const_cast<int32_t*>(c.last_block_tokens));
  // The schedule counts output rows from this call's first; queries are found by query_start.
  __nv_bfloat16* out = c.out + c.first_row * c.shape.heads * c.shape.head_size;
  Flash2Params<Kv> params(const_cast<__nv_bfloat16*>(c.q), paged, /*maybe_custom_mask=*/nullptr,
                      const_cast<int32_t*>(c.query_start), /*maybe_mask_indptr=*/nullptr,
                      /*maybe_q_rope_offset=*/nullptr, out, /*lse=*/nullptr, /*maybe_alibi_slopes=*/nullptr,
                      static_cast<uint32_t>(c.shape.heads), static_cast<int32_t>(c.q_stride),
                      static_cast<int32_t>(c.shape.head_size), /*window_left=*/-1, /*logits_soft_cap=*/0.0f,
                      c.shape.scale * c.cache.k_scale, /*rope_scale=*/1.0f, /*rope_theta=*/1e4f);
  params.v_scale = c.cache.v_scale;
  params.request_indices = at(p.request_indices_offset);
  params.qo_tile_indices = at(p.qo_tile_indices_offset);
  params.kv_tile_indices = at(p.kv_tile_indices_offset);
  params.o_indptr = at(p.o_indptr_offset);
  params.kv_chunk_size_ptr = at(p.kv_chunk_size_ptr_offset);
  if (p.split) params.merge_indptr = at(p.merge_indptr_offset);
  params.padded_batch_size = static_cast<uint32_t>(p.padded_batch_size);
  params.max_total_num_rows = static_cast<uint32_t>(p.total_num_rows);
  if (p.graph) {
    params.block_valid_mask = reinterpret_cast<bool*>(at(p.block_valid_mask_offset));
    params.total_num_rows = reinterpret_cast<uint32_t*>(at(p.total_num_rows_offset));
  }
  return params;
}

template <uint32_t kHeadSize, typename Kv>
Status flash2_run(const RunCall& c, const Flash2Plan& p, cudaStream_t stream) {
  char* partial = static_cast<char*>(c.partial);
  auto* values = p.split ? reinterpret_cast<__nv_bfloat16*>(partial + p.v_offset) : nullptr;
  auto* sums = p.split ? reinterpret_cast<float*>(partial + p.s_offset) : nullptr;
  const auto run = [&](auto tile) {
    return flashinfer::BatchPrefillWithPagedKVCacheDispatched<
        /*SAME_KV_STRIDES=*/true, decltype(tile)::value, kHeadSize, kHeadSize, flashinfer::PosEncodingMode::kNone,
        /*USE_FP16_QK_REDUCTION=*/false, flashinfer::MaskMode::kCausal, Flash2Variant>(
        flash2_params<Kv>(c, p), values, sums, /*enable_pdl=*/false, stream);
  };
  try {
    switch (p.cta_tile_q) {
      case 16: return status_of(run(std::integral_constant<uint32_t, 16>()), "attention");
      case 64: return status_of(run(std::integral_constant<uint32_t, 64>()), "attention");
      case 128: return status_of(run(std::integral_constant<uint32_t, 128>()), "attention");
      default: return fail(ErrorCode::kInternal, "attention: the planner chose tiles of {} rows", p.cta_tile_q);
    }
  } catch (const std::exception& e) {
    return fail(ErrorCode::kInternal, "attention: {}", e.what());
  }
}

}  // namespace crible::cuda
