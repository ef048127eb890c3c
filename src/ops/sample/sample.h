// Chooses one token per row of logits. Order of the steps, which is vLLM's with typical-p put in:
//   log-probabilities of the raw logits (where asked for) · mask, bias, penalties, DRY (logit_adjustments.h) ·
//   temperature · min-p · typical-p · top-k · top-p · draw.
// Each filter sees the distribution that the one before left, normalised anew. temperature 0 is greedy: the lowest
// id among the largest adjusted logits, whatever the filters. A draw uses a counter-based generator keyed by (seed, position), so a
// request's tokens depend on its own seed and position alone, whatever else is in the batch. Not-a-number logits
// are a reported fault, never a token.
#pragma once

#include <cstdint>

#include "base/units.h"
#include "device/stream.h"
#include "ops/sample/logit_adjustments.h"

namespace crible {

inline constexpr int32_t kNoLogprobs = -1;

struct SampleRow {
  float temperature = 1.0f;  // 0 = greedy
  float min_p = 0.0f;        // [0, 1]: tokens less likely than this share of the likeliest go; 0 = off
  float typical_p = 1.0f;    // (0, 1]: mass kept, nearest to the entropy first (Meister et al. 2023); 1 = off
  float top_p = 1.0f;        // (0, 1]; 1 = off
  int32_t top_k = 0;         // 0 = off
  uint64_t seed = 0;
  int64_t position = 0;      // index of the token being drawn within its sequence
  const LogitAdjustments* adjustments = nullptr;  // null: none
  int32_t logprobs = kNoLogprobs;  // most likely tokens to report beside the one drawn
  TokenId given = -1;              // not -1: nothing is drawn, this is the token, known beforehand
};

// ln of a token's probability under the raw logits, before temperature and all else.
struct TokenLogprob {
  TokenId id;
  float logprob;
  int32_t rank;  // 1 + number of tokens that are likelier, or as likely with a lower id
};

struct SampleArgs {
  float* logits;  // [rows, vocabulary], may be overwritten
  int64_t logits_stride;
  int64_t rows;
  int64_t vocabulary;
  const SampleRow* parameters;  // [rows]
  TokenId* tokens;              // [rows]; -1 where a row holds a value that is not finite
  // [rows, logprobs_stride]: the token's own, then those of the most likely tokens, likeliest first; where the
  // vocabulary has fewer than asked for, the rest has id -1. Not written for a fault. Null if no row asks.
  TokenLogprob* logprobs = nullptr;
  int64_t logprobs_stride = 0;  // at least 1 + the largest SampleRow::logprobs
};

int64_t sample_scratch_bytes(int64_t rows, int64_t vocabulary, int threads);
void sample(Stream& stream, const SampleArgs& args);

}  // namespace crible
