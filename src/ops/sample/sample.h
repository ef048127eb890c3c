// Chooses one token per row of logits. Order of the steps: temperature, top-k, top-p, draw.
// temperature 0 is greedy: the lowest id among the largest logits. A draw uses a counter-based
// generator keyed by (seed, position), so a request's tokens depend on its own seed and position
// alone, whatever else is in the batch. Not-a-number logits are a reported fault, never a token.
#pragma once

#include <cstdint>

#include "base/units.h"
#include "device/stream.h"

namespace crible {

struct SampleRow {
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;        // (0, 1]; 1 = off
  int32_t top_k = 0;         // 0 = off
  uint64_t seed = 0;
  int64_t position = 0;      // index of the token being drawn within its sequence
  bool forbid_listed = false;          // forbid the ids below (min_tokens, ignore-eos by masking)
  const TokenId* forbidden = nullptr;
  int32_t num_forbidden = 0;
};

struct SampleArgs {
  float* logits;  // [rows, vocabulary], may be overwritten
  int64_t logits_stride;
  int64_t rows;
  int64_t vocabulary;
  const SampleRow* parameters;  // [rows]
  TokenId* tokens;              // [rows]; -1 where a row holds a value that is not finite
};

int64_t sample_scratch_bytes(int64_t rows, int64_t vocabulary, int threads);
void sample(Stream& stream, const SampleArgs& args);

}  // namespace crible
