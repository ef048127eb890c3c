// What a checkpoint states of a decoder-only transformer, read from its configuration and checked. What
// every model of an architecture has and no file states is not here but in the architecture's own file
// (DecoderTraits). A key of the architecture's own that this reader does not know is an error: it could
// change the computation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/rope_config.h"

namespace crible {

struct ModelConfig {
  std::string architecture;  // as GGUF names it, "llama"
  int64_t context_length = 0;
  int64_t vocabulary = 0;  // rows of token_embd.weight
  int64_t layers = 0;
  int64_t embedding = 0;     // width of the residual stream
  int64_t feed_forward = 0;  // of a dense layer
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t rotary_size = 0;  // rotated elements of a head
  double rms_epsilon = 0;
  RopeConfig rope;
  std::optional<RopeConfig> window_rope;  // of layers with a window, where theirs is another

  int64_t window = 0;          // positions that a query of a layer with a window sees, its own among them
  std::vector<bool> windowed;  // [layers]
  double attention_scale = 0;    // of query · key
  double attention_softcap = 0;  // scores become cap · tanh(score / cap); 0: they stay
  double logit_softcap = 0;      // the same for the logits

  int64_t experts = 0;              // 0: every layer is dense
  int64_t experts_per_token = 0;
  int64_t expert_feed_forward = 0;
  bool normalise_experts = true;    // the weights of a token's experts add up to 1

  int64_t query_size() const { return heads * head_size; }
  int64_t kv_size() const { return kv_heads * head_size; }
  int64_t qkv_size() const { return query_size() + 2 * kv_size(); }
  int64_t window_of(int64_t layer) const { return windowed[static_cast<size_t>(layer)] ? window : 0; }
};

// What an architecture means when its files say nothing.
struct ConfigDefaults {
  double rope_base = 10'000;
  std::optional<double> window_rope_base;  // set: layers with a window rotate by this base, unscaled
  int64_t window_period = 1;  // n > 1: of every n layers the last has no window
};

Result<ModelConfig> read_model_config(const Checkpoint& checkpoint, const ConfigDefaults& defaults = {});

}  // namespace crible
