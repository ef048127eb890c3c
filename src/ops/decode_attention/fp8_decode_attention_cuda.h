// Attention of single queries over a paged cache in FP8, for batches too large for decode_attention():
// queries are normed and rotated, keys and values in the cache. Reads 2·kv_heads·head_size bytes per cached
// token.
//
// A warp takes one block of the cache (16 tokens of one KV head) at a time, from memory straight into
// registers: a thread's 16 bytes of a key are operands of four mma.m16n8k16 as they come (the order of the
// elements of a head is free), and of two tokens' values a byte permutation makes the pairs that the other
// product wants. FP8 widens to FP16 exactly; sums are float32. A cluster of blocks shares one KV head of one
// sequence; the warps' and blocks' softmaxes are merged in a fixed order. The launch depends on the number of
// rows alone: no plan, and capturable. Limits: head size 64 or 128; up to 8 query heads per KV head; block
// size 16.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

struct Fp8DecodeAttentionArgs {
  const __nv_bfloat16* q = nullptr;  // [rows, heads, head_size] with rows of q_stride elements
  int64_t q_stride = 0;
  __nv_bfloat16* out = nullptr;  // [rows, heads · head_size]
  int64_t rows = 0;
  const int32_t* kv_start = nullptr;  // [rows + 1] into kv_blocks
  const int32_t* kv_blocks = nullptr;
  const int32_t* last_block_tokens = nullptr;  // [rows]
  AttentionShape shape;
  KvCache cache;
};

bool fp8_decode_attention_fits(const AttentionShape& shape);
void fp8_decode_attention(const CudaStream& stream, const Fp8DecodeAttentionArgs& args);

}  // namespace crible::cuda
