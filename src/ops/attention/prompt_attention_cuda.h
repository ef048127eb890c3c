// Causal attention of prompts and of pieces of them over a paged BF16 cache on Hopper's asynchronous tensor
// cores, for few new queries behind a long context as for many. Reads a KV head's keys and values once for
// each 128 rows (queries times the query heads of a KV head); computes 4·head_size·heads operations per query
// and visible key. After FlashAttention-3 (Shah et al., 2024): one warp copies blocks of the cache into
// shared memory, two warpgroups of 64 rows take products and softmax in turn, each product of queries and
// keys beside the product with the values of the tile before. Unlike there, the query heads that share a KV
// head lie in one tile, and the context is split wherever the multiprocessors would not end together
// (prompt_schedule_cuda.h).
// Limits: head size 64 or 128; blocks of 16; results depend, within rounding, on what else the step holds.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"
#include "ops/attention/prompt_schedule_cuda.h"

namespace crible::cuda {

// The schedule on the device.
struct PromptPlan {
  int blocks = 0;
  int merges = 0;
  const int32_t* start = nullptr;
  const PromptUnit* units = nullptr;
  const PromptMerge* merged = nullptr;
};

struct PromptAttentionArgs {
  const __nv_bfloat16* q = nullptr;  // of the step, rows of q_stride elements
  int64_t q_stride = 0;
  __nv_bfloat16* out = nullptr;  // [queries, heads · head_size], likewise
  const int32_t* kv_blocks = nullptr;
  AttentionShape shape;
  KvCache cache;  // BF16
  PromptPlan plan;
  float* partial = nullptr;  // prompt_partial_bytes()
};

bool prompt_attention_fits(const AttentionShape& shape);
// One to a multiprocessor.
int prompt_attention_blocks();
int64_t prompt_partial_bytes(const AttentionShape& shape, int blocks);
// Once per process, before capture.
void prepare_prompt_attention();
void prompt_attention(const CudaStream& stream, const PromptAttentionArgs& args);

}  // namespace crible::cuda
