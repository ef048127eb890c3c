// What a request wants changed in a row of logits before a token is drawn. Plain arrays of the caller's, which
// must outlive the call. Every array lists a token at most once, so that the order within it does not matter.
#pragma once

#include <cstdint>
#include <span>

#include "base/units.h"

namespace crible {

struct AddedLogit {
  TokenId id;
  float value;
};

struct TokenCount {
  TokenId id;
  int32_t in_output;  // occurrences there; 0 for a token of the prompt alone
};

// Whose tokens LogitAdjustments::seen counts. A device that keeps the counts of a sequence adds each token that it draws
// to them itself (history_slots.h), so that the next draw may be enqueued before the host knows the token.
struct SeenHistory {
  int64_t sequence = -1;  // unique while the device keeps histories; -1: nothing is to be kept
  int64_t drawn = 0;      // tokens of the output before this draw, those that steps under way draw included
  int64_t known = 0;      // of them those that `seen` counts
};

// Applied in the order of the members, which is vLLM's: mask, bias, penalties; repetition before frequency and
// presence; DRY last.
struct LogitAdjustments {
  // Tokens that a grammar admits, bit t % 32 of word t / 32; all others become impossible. Empty: no mask, else
  // a bit for each token of the vocabulary.
  std::span<const uint32_t> allowed;
  std::span<const TokenId> forbidden;  // become impossible
  std::span<const AddedLogit> bias;
  std::span<const TokenCount> seen;  // distinct tokens of prompt and output
  float repetition_penalty = 1;      // of all seen: a logit above 0 is divided by it, one below multiplied
  float frequency_penalty = 0;       // taken off times in_output
  float presence_penalty = 0;        // taken off once where in_output > 0
  std::span<const AddedLogit> dry;   // negative values (repetition_matches.h)
  SeenHistory history;               // of `seen`
};

// A value that is not finite stays what it is, so that a fault remains visible; -infinity stays masked.
// CHECKs that ids are below `vocabulary`.
void adjust_logits(float* logits, int64_t vocabulary, const LogitAdjustments& adjustments);

}  // namespace crible
