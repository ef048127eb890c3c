// The sizes of a decoder-only transformer of the Llama and Qwen families, as its GPU implementation needs
// them: pre-norm blocks of grouped-query attention and SwiGLU (dense or a mixture of experts), RMS norms,
// rotary positions.
#pragma once

#include <cstdint>

#include "base/units.h"
#include "ops/attention/flashinfer_call.h"
#include "ops/moe/moe_cuda.h"
#include "ops/rope/rope.h"

namespace crible::cuda {

struct DecoderShape {
  int64_t layers = 0;
  int64_t embedding = 0;  // width of the residual stream
  int64_t feed_forward = 0;  // of a dense layer; 0 where all are mixtures
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
  int64_t experts = 0;  // 0: every layer is dense; else none is
  int64_t experts_per_token = 0;
  int64_t expert_feed_forward = 0;
  bool normalise_experts = true;  // the weights of a token's experts add up to 1
  // One of several ranks (tensor_parallel/shard_plan.h): heads, kv_heads and the feed-forward widths are its share.
  int64_t ranks = 1;
  int64_t rank = 0;

  int64_t query_size() const { return heads * head_size; }
  int64_t kv_size() const { return kv_heads * head_size; }
  int64_t qkv_size() const { return query_size() + 2 * kv_size(); }
  // The rank's equal share of the head, in whole tiles: the last may pass the end of the vocabulary. Also the
  // elements from one row of its logits to the next.
  int64_t head_rows() const { return round_up(ceil_div(vocabulary, ranks), 16); }
  int64_t first_head_row() const { return rank * head_rows(); }
  // Rows of the embedding in memory: a tied head's last share must lie in it.
  int64_t embedding_rows() const { return tied ? ranks * head_rows() : vocabulary; }
  // Elements of the matrices that a decoded token reads: all but the embedding of an untied model.
  int64_t matrix_elements() const {
    const int64_t mixture = experts + 3 * experts_per_token * expert_feed_forward;
    return layers * embedding * (qkv_size() + query_size() + 3 * feed_forward + mixture) +
           head_rows() * embedding;
  }
  // All weights, norms left out.
  int64_t parameters() const {
    return layers * embedding * (qkv_size() + query_size() + 3 * feed_forward + experts + 3 * experts * expert_feed_forward) +
           (tied ? 1 : 2) * vocabulary * embedding;
  }
  ExpertSizes expert_sizes() const { return {experts, experts_per_token, embedding, expert_feed_forward}; }
  AttentionShape attention() const;
};

DecoderShape qwen3_8b();
DecoderShape qwen3_32b();
DecoderShape qwen3_30b_a3b();

// Unscaled rotary positions of base rope_base, for weights that come from no checkpoint.
RopeTable plain_rope_table(const DecoderShape& shape);

}  // namespace crible::cuda
