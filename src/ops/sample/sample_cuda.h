// Chooses one token per row of logits on the GPU, with the meaning and the order of steps of sample.h:
// log-probabilities of the raw logits · mask, bias, penalties, DRY · temperature · min-p · typical-p ·
// top-k · top-p · draw. Tokens depend on a request's own logits, seed and position alone, never on the batch.
//
// A cluster of eight blocks has one row, which it keeps in shared memory: the logits are read once, and once
// more where log-probabilities are wanted beside anything that changes them. Each filter costs two to four
// passes over shared memory (select_tokens_cuda.cuh). Weights are those of the CPU, bit for bit, summed as
// 43-bit fixed point: no result depends on an order of additions. What may differ from the CPU, whose sums
// are rounded: a draw, or a token at the very edge of a top-p or typical-p set, that falls within 2⁻⁴⁴ a
// token of the bound.
#pragma once

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/sample/sample.h"

namespace crible::cuda {

// What a cluster's shared memory holds, and what weights in fixed point allow.
inline constexpr int kMaxVocabulary = 400'000;

// What logit_adjustments.h describes, as one stretch of SampleArgs::lists: the mask's words, the forbidden
// ids, then pairs (id, value) of the bias, (id, occurrences) of the seen, (id, value) of DRY. A token stands
// in each at most once; an id that is not of the vocabulary has no effect.
//
// With a slot the row's history stays on the device: the seen of a row that is not `kept` are put there, those of one
// that is are taken from there, and the row's token is counted for the next step.
struct RowLists {
  int64_t first = 0;  // word of SampleArgs::lists
  int32_t mask_words = 0;
  int32_t forbidden = 0;
  int32_t bias = 0;
  int32_t seen = 0;
  int32_t dry = 0;
  int32_t slot = -1;  // of SampleArgs::histories, used by no other row of the launch; -1: none
  int32_t kept = 0;   // 1: seen is 0 and the slot holds the history
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;

  constexpr bool empty() const { return mask_words + forbidden + bias + seen + dry == 0 && slot < 0; }
};

struct SampleRow {
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;        // (0, 1]; 1 = off
  float min_p = 0.0f;        // [0, 1]; 0 = off
  int32_t top_k = 0;         // 0 = off
  uint64_t seed = 0;
  int64_t position = 0;    // index of the token being drawn within its sequence
  float typical_p = 1.0f;  // (0, 1]; 1 = off
  int32_t logprobs = kNoLogprobs;
  int32_t given = -1;  // not -1: nothing is drawn, this is the token
  RowLists lists;
};

// All of the device's memory.
struct SampleArgs {
  const float* logits = nullptr;  // [rows, logits_stride], the vocabulary's first; left as they are
  int64_t logits_stride = 0;      // elements between rows; 0: vocabulary
  int64_t rows = 0;
  int64_t vocabulary = 0;                 // at most kMaxVocabulary
  const SampleRow* parameters = nullptr;  // [rows]
  int32_t* tokens = nullptr;  // [rows]; -1: the row holds NaN or +infinity, or nothing is possible
  const uint32_t* lists = nullptr;
  // [rows, logprobs_stride], as SampleArgs of sample.h. Null if no row asks.
  TokenLogprob* logprobs = nullptr;
  int64_t logprobs_stride = 0;  // at least 1 + the largest SampleRow::logprobs, which is at most 512
  // [slots, history_stride], each the number of tokens, a word that is not used, then pairs (id, occurrences). Null if
  // no row has a slot.
  uint32_t* histories = nullptr;
  int64_t history_stride = 0;  // words, even: room for every token that the histories will hold
};

// Of a history of at most `tokens` different tokens.
constexpr int64_t history_words(int64_t tokens) { return 2 + 2 * tokens; }

// One launch, the same for any content of the rows; may be captured into a graph.
void sample(const CudaStream& stream, const SampleArgs& args);

}  // namespace crible::cuda
