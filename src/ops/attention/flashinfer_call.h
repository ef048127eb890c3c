// The seam to FlashInfer's templates: plain structs, so that only the files that instantiate a kernel
// include its headers. Each function turns FlashInfer's exceptions into a Status.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/result.h"

namespace crible::cuda {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;  // 64 or 128
  int64_t block_size = 16;
  float scale = 0;  // of q·k
};

// What the cache holds: BF16, or FP8 E4M3 with one scale for a layer's keys and one for its values.
enum class KvType : uint8_t { kBf16, kFp8 };
constexpr int64_t kv_element_bytes(KvType type) {
  return type == KvType::kBf16 ? 2 : 1;
}

// One layer's cache: keys and values [blocks, kv_heads, block_size, head_size] each, with block_stride
// elements from one block to the next in both. A stored FP8 value stands for itself times its scale.
struct KvCache {
  void* k = nullptr;
  void* v = nullptr;
  int64_t block_stride = 0;
  KvType type = KvType::kBf16;
  float k_scale = 1;
  float v_scale = 1;
};

// Host arrays are of this call's sequences only; query_start may begin above 0.
struct PlanCall {
  AttentionShape shape;
  int64_t num_sequences = 0;
  int64_t num_rows = 0;
  const int32_t* query_start = nullptr;
  const int32_t* kv_start = nullptr;
  const int32_t* context_length = nullptr;
  void* partial = nullptr;
  int64_t partial_bytes = 0;
  void* schedule = nullptr;  // on the device
  void* staging = nullptr;   // page-locked, schedule_bytes too
  int64_t schedule_bytes = 0;
  bool graph = false;
};

struct RunCall {
  AttentionShape shape;
  const __nv_bfloat16* q = nullptr;
  int64_t q_stride = 0;
  __nv_bfloat16* out = nullptr;
  int64_t first_row = 0;  // of this call's first query in q and out
  int64_t num_sequences = 0;
  int64_t num_rows = 0;
  KvCache cache;
  const int32_t* query_start = nullptr;  // device arrays, of this call's sequences
  const int32_t* kv_start = nullptr;
  const int32_t* kv_blocks = nullptr;
  const int32_t* last_block_tokens = nullptr;
  void* partial = nullptr;
  void* schedule = nullptr;
};

// Places in the schedule, as FlashInfer's planners chose them.
struct Flash2Plan {
  int64_t padded_batch_size = 0;
  int64_t total_num_rows = 0;
  int64_t total_num_rows_offset = 0;
  int64_t cta_tile_q = 0;
  int64_t request_indices_offset = 0;
  int64_t qo_tile_indices_offset = 0;
  int64_t kv_tile_indices_offset = 0;
  int64_t merge_indptr_offset = 0;
  int64_t o_indptr_offset = 0;
  int64_t kv_chunk_size_ptr_offset = 0;
  int64_t v_offset = 0;
  int64_t s_offset = 0;
  int64_t block_valid_mask_offset = 0;
  bool graph = false;
  bool split = false;
};
struct Flash3Plan {
  int64_t qo_tile_indices_offset = 0;
  int64_t qo_indptr_offset = 0;
  int64_t kv_indptr_offset = 0;
  int64_t qo_len_offset = 0;
  int64_t kv_len_offset = 0;
  int64_t head_indices_offset = 0;
  int64_t work_indptr_offset = 0;
  int64_t batch_indices_offset = 0;
};

Status flash2_plan(const PlanCall& call, cudaStream_t stream, Flash2Plan* plan);
Status flash2_run_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_128(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_fp8_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_fp8_128(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
// For a plan of flash2_fixed_plan() (fixed_schedule_cuda.h).
Status flash2_run_fixed_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_fixed_128(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_fixed_fp8_64(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);
Status flash2_run_fixed_fp8_128(const RunCall& call, const Flash2Plan& plan, cudaStream_t stream);

Status flash3_plan(const PlanCall& call, cudaStream_t stream, Flash3Plan* plan);
// Head size 128 and a BF16 cache only.
Status flash3_run_128(const RunCall& call, const Flash3Plan& plan, cudaStream_t stream);

}  // namespace crible::cuda
