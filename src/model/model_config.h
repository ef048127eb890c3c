// The shape of a decoder-only transformer, read from a checkpoint's configuration and checked. A key of the
// architecture's own that this reader does not know is an error: it would change the computation.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "model/checkpoint.h"

namespace crible {

struct ModelConfig {
  std::string architecture;  // prefix of the keys, "llama"
  int64_t context_length = 0;
  int64_t vocabulary = 0;  // rows of token_embd.weight
  int64_t layers = 0;
  int64_t embedding = 0;   // width of the residual stream
  int64_t feed_forward = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t rotary_size = 0;  // rotated elements of a head
  double rms_epsilon = 0;
  double rope_base = 0;
  double rope_linear_factor = 1;  // positions are divided by it

  int64_t query_size() const { return heads * head_size; }
  int64_t kv_size() const { return kv_heads * head_size; }
  int64_t qkv_size() const { return query_size() + 2 * kv_size(); }
};

Result<ModelConfig> read_model_config(const Checkpoint& checkpoint);

}  // namespace crible
