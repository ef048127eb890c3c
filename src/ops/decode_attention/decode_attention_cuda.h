// Attention of a decode step with few sequences, fused with what stands around it: QK-norm and rotary
// embedding of the new token, its K and V into the paged cache (BF16 or FP8), split-context softmax, merge.
// Reads 4·kv_heads·head_size bytes per cached token, FP8 half; at short contexts bound by latency.
//
// A cluster of blocks shares one KV head of one sequence, a warp takes a block of the cache at a time
// (decode_page.cuh). Launched dependently: the cached keys and values of earlier steps, and all else that is
// known, are requested before the wait for this layer's QKV matmul. The warps' softmaxes are merged in shared
// memory, the blocks' by sending each other their shares through distributed shared memory, both in a fixed
// order. Limits: head size 64 or 128; up to 8 query heads per KV head; block size 16; one query per sequence.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"
#include "ops/rope/rope_table_cuda.h"

namespace crible::cuda {

struct DecodeAttentionArgs {
  const __nv_bfloat16* qkv = nullptr;  // [rows, (heads + 2 · kv_heads) · head_size], as the matmul left it
  __nv_bfloat16* out = nullptr;        // [rows, heads · head_size]
  int rows = 1;
  const __nv_bfloat16* q_norm = nullptr;  // [head_size], or null
  const __nv_bfloat16* k_norm = nullptr;
  float epsilon = 0;
  RopeView rope;
  const int64_t* slots = nullptr;           // [rows] where the new token's K and V go
  const int32_t* context_length = nullptr;  // [rows] with the new token
  const int32_t* kv_start = nullptr;        // [rows + 1] into kv_blocks
  const int32_t* kv_blocks = nullptr;
  AttentionShape shape;
  KvCache cache;
};

bool decode_attention_fits(const AttentionShape& shape);
// Once per process, before capture.
void prepare_decode_attention();
// cluster: blocks per KV head and sequence, a power of two to 16; 0 chooses by the number of rows.
void decode_attention(const CudaStream& stream, const DecodeAttentionArgs& args, int cluster = 0);

}  // namespace crible::cuda
