// What a client asks of the engine and what it gets back. Tokens in, tokens out: no text, no JSON.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/units.h"
#include "ops/sample/repetition_matches.h"
#include "ops/sample/sample.h"

namespace crible {

// The order in which these apply is that of ops/sample/sample.h.
struct SamplingParams {
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;        // (0, 1]
  int32_t top_k = 0;         // 0 = off
  float min_p = 0;           // [0, 1]; 0 = off
  float typical_p = 1.0f;    // (0, 1]; 1 = off
  float repetition_penalty = 1.0f;  // above 0; of tokens in prompt or output
  float presence_penalty = 0;       // of tokens in the output
  float frequency_penalty = 0;      // the same, times their occurrences
  RepetitionLimits dry;                 // multiplier 0 = off
  std::vector<TokenId> dry_breakers;    // sequence breakers
  std::vector<AddedLogit> logit_bias;  // each token once
  std::optional<uint64_t> seed;  // absent: drawn from the engine's seed and the sequence id
  int64_t max_tokens = 16;   // output tokens at most, at least 1
  int64_t min_tokens = 0;    // output tokens before a stop token can be drawn
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;  // end of generation tokens of the model included by the server
  // How many of the most likely tokens to report beside each token's own log-probability; absent: none at all.
  std::optional<int32_t> logprobs;
  std::optional<int32_t> prompt_logprobs;  // the same for the prompt's tokens after the first
};

inline constexpr int32_t kMaxLogprobs = 20;
inline constexpr int32_t kMaxChoices = 128;

enum class FinishReason {
  kNone,       // more will come
  kStop,       // a stop token
  kLength,     // max_tokens or the context's end
  kCancelled,  // cancel(), or the engine ended
  kError,      // see TokenOutput::error
};
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "abort", "error"

// One event of one sequence, in order. Exactly one event with finish != kNone ends every sequence
// that submit() accepted: no request is ever lost.
struct TokenOutput {
  SeqId sequence;
  int32_t choice = 0;  // which of the request's n
  TokenId token = -1;  // -1: none in this event (an end without a token)
  FinishReason finish = FinishReason::kNone;
  int64_t output_tokens = 0;  // so far, this one included; a stop token counts
  int64_t cached_tokens = 0;  // prompt tokens taken from the prefix cache
  TimePoint time;             // when the token was sampled
  TimePoint queued;           // when submit() was called
  TimePoint scheduled;        // first step that computed some of its prompt
  int32_t preemptions = 0;
  std::optional<Error> error;
  // Valid during the call only. The token itself first, then the most likely ones. Empty without SamplingParams::logprobs.
  std::span<const TokenLogprob> logprobs;
  // With the first token, where prompt_logprobs asks: 1 + prompt_logprobs entries for each prompt token but the first.
  std::span<const TokenLogprob> prompt_logprobs;
};

struct EngineRequest {
  std::vector<TokenId> prompt;
  // Independent answers to one prompt, whose computation and blocks they share: n sequences with ids from
  // the one that submit() returns upwards, choice i with a seed made of the request's and i.
  int32_t n = 1;
  SamplingParams sampling;
  uint64_t cache_salt = 0;  // prefixes are shared only between requests of equal salt
  int64_t priority = 0;     // lower goes first under scheduling-policy priority; else without effect
  // Called on the engine's thread for every event of this sequence; must return at once and must not
  // call back into the engine. The last call (finish != kNone) releases it.
  std::function<void(const TokenOutput&)> on_output;
};

}  // namespace crible
