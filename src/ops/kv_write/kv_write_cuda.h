// The pass between the QKV matmul and attention on the GPU: bias and QK-norm (where the model has them),
// rotary embedding of q and k, q back in place and k, v into the paged cache, BF16 or divided by the cache's
// scale and rounded to FP8. float32 inside. Moves 4·tokens·(heads + 2·kv_heads)·head_size bytes, less for
// FP8. Limits: head size 64 or 128. A token whose slot is negative writes nothing to the cache.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"
#include "ops/rope/rope_table_cuda.h"

namespace crible::cuda {

struct KvWriteArgs {
  __nv_bfloat16* qkv = nullptr;  // [tokens, (heads + 2 · kv_heads) · head_size]: q, k, v
  int64_t tokens = 0;
  const int32_t* positions = nullptr;     // [tokens]
  const int64_t* slots = nullptr;         // [tokens] block · block_size + offset
  const __nv_bfloat16* bias = nullptr;    // of the matmul, [(heads + 2 · kv_heads) · head_size], or null
  const __nv_bfloat16* q_norm = nullptr;  // [head_size], or null
  const __nv_bfloat16* k_norm = nullptr;
  float epsilon = 0;
  RopeView rope;
  AttentionShape shape;
  KvCache cache;
};

void kv_write(const CudaStream& stream, const KvWriteArgs& args);

}  // namespace crible::cuda
