// What a client asks of the engine and what it gets back. Tokens in, tokens out: no text, no JSON.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/units.h"

namespace crible {

struct SamplingParams {
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;        // (0, 1]
  int32_t top_k = 0;         // 0 = off
  std::optional<uint64_t> seed;  // absent: drawn from the engine's seed and the sequence id
  int64_t max_tokens = 16;   // output tokens at most, at least 1
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;  // end of generation tokens of the model included by the server
};

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
  TokenId token = -1;  // -1: none in this event (an end without a token)
  FinishReason finish = FinishReason::kNone;
  int64_t output_tokens = 0;  // so far, this one included; a stop token counts
  int64_t cached_tokens = 0;  // prompt tokens taken from the prefix cache
  TimePoint time;             // when the token was sampled
  TimePoint queued;           // when submit() was called
  TimePoint scheduled;        // first step that computed some of its prompt
  int32_t preemptions = 0;
  std::optional<Error> error;
};

struct EngineRequest {
  std::vector<TokenId> prompt;
  SamplingParams sampling;
  uint64_t cache_salt = 0;  // prefixes are shared only between requests of equal salt
  // Called on the engine's thread for every event of this sequence; must return at once and must not
  // call back into the engine. The last call (finish != kNone) releases it.
  std::function<void(const TokenOutput&)> on_output;
};

}  // namespace crible
