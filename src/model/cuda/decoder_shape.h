// The sizes of a decoder-only transformer of the Llama and Qwen families, as its GPU implementation needs
// them: pre-norm blocks of grouped-query attention and SwiGLU, RMS norms, rotary positions.
#pragma once

#include <cstdint>

#include "ops/attention/flashinfer_call.h"
#include "ops/rope/rope.h"

namespace crible::cuda {

struct DecoderShape {
  int64_t layers = 0;
  int64_t embedding = 0;  // width of the residual stream
  int64_t feed_forward = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t vocabulary = 0;
  int64_t context_length = 0;
  bool qk_norm = false;
  bool qkv_bias = false;
  bool tied = false;  // the head is the embedding
  float epsilon = 1e-6f;
  double attention_scale = 0;  // of query · key; 0: 1 / √head_size
  double rope_base = 1e6;      // of plain_rope_table(); a checkpoint's own table may be scaled
  RopePairing pairing = RopePairing::kHalves;

  int64_t query_size() const { return heads * head_size; }
  int64_t kv_size() const { return kv_heads * head_size; }
  int64_t qkv_size() const { return query_size() + 2 * kv_size(); }
  // Elements of the matrices that a decoded token reads: all but the embedding of an untied model.
  int64_t matrix_elements() const {
    return layers * embedding * (qkv_size() + query_size() + 3 * feed_forward) + vocabulary * embedding;
  }
  AttentionShape attention() const;
};

DecoderShape qwen3_8b();

// Unscaled rotary positions of base rope_base, for weights that come from no checkpoint.
RopeTable plain_rope_table(const DecoderShape& shape);

}  // namespace crible::cuda
