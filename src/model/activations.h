// The working memory of one step of a decoder on the CPU: named slices of the arena, which the engine
// owns. Attention's and the feed-forward block's share their place: one is done before the other starts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "model/model_config.h"

namespace crible {

// Rows of a dense feed-forward block computed at once: its wide intermediate results stay in the cache
// of the processor, and the arena does not grow with the step.
inline constexpr int64_t kFeedForwardRows = 256;

struct Activations {
  float* residual;    // [tokens, embedding]
  float* normed;      // [tokens, embedding]
  float* head_input;  // [logit rows, embedding]

  float* qkv;        // [tokens, qkv_size]
  float* attention;  // [tokens, query_size]

  float* gate_up;  // [min(tokens, kFeedForwardRows), 2 · feed_forward]
  float* gated;    // [min(tokens, kFeedForwardRows), feed_forward]

  float* router_logits;     // [tokens, experts]
  float* expert_weights;    // [tokens, experts_per_token]
  int32_t* chosen_experts;  // [tokens, experts_per_token]

  int64_t bytes;
};

// arena may be null to learn the size.
Activations lay_out(const ModelConfig& config, int64_t tokens, int64_t logit_rows, std::byte* arena);

}  // namespace crible
