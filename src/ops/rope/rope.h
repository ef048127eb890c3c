// Rotary position embedding (Su et al. 2021), in place, on q and k of every token. The table of
// cosines and sines is made once, for the largest position, in double precision.
// Moves 8·tokens·heads·rotary_size bytes.
#pragma once

#include <vector>

#include "device/stream.h"
#include "ops/batch_view.h"

namespace crible {

enum class RopePairing {
  kInterleaved,  // (0,1), (2,3), ...: GGUF llama, whose converter permuted q and k
  kHalves,       // (0, d/2), (1, d/2+1), ...: Hugging Face layout, "neox"
};

struct RopeTable {
  int64_t rotary_size = 0;    // rotated elements per head, even
  int64_t max_positions = 0;
  std::vector<float> cosine;  // [max_positions, rotary_size / 2]
  std::vector<float> sine;
};
// inverse_frequencies: [rotary_size / 2], after any scaling of the model's RoPE variant.
// attention_factor multiplies cosine and sine (YaRN's magnitude scaling; 1 otherwise).
RopeTable make_rope_table(const std::vector<double>& inverse_frequencies, int64_t max_positions,
                          double attention_factor);

struct RopeArgs {
  float* q;  // [num_tokens, heads, head_size]
  int64_t q_stride;
  int64_t heads;
  float* k;  // [num_tokens, kv_heads, head_size]
  int64_t k_stride;
  int64_t kv_heads;
  int64_t head_size;
  RopePairing pairing;
  const RopeTable* table;
};

void rope(Stream& stream, const BatchView& batch, const RopeArgs& args);

}  // namespace crible
