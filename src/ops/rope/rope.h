// Rotary position embedding (Su et al. 2021), in place, on q and k of every token. Cosines and sines come
// in double precision from two small tables, of coarse and of fine positions: a context of 131,072 takes
// under a mebibyte instead of 64, and no time to load.
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

// Position p is turned by e^(i·p·f) = e^(i·256a·f) · e^(i·b·f), p = 256a + b.
struct RopeTable {
  static constexpr int64_t kFinePositions = 256;

  int64_t rotary_size = 0;     // rotated elements per head, even
  int64_t max_positions = 0;
  std::vector<double> fine;    // [kFinePositions, cosine and sine, rotary_size / 2]
  std::vector<double> coarse;  // [max_positions / kFinePositions, ...], times the attention factor

  // Writes cosine[rotary_size / 2] and sine[rotary_size / 2] of one position, rounded to float once.
  void row(int64_t position, float* cosine, float* sine) const;
  int64_t bytes() const { return static_cast<int64_t>((fine.size() + coarse.size()) * sizeof(double)); }
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
