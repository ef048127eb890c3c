// The fields that /v1/completions and /v1/chat/completions share: sampling, stopping, streaming.
// Names and defaults are OpenAI's, extended by vLLM's; those of the protocol that this server does
// not act on are accepted only at the value that asks for nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "wire/field_reader.h"

namespace crible {

struct GenerationOptions {
  std::string model;  // empty: not named
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;  // 0 = off; clients also send -1
  double min_p = 0;
  double typical_p = 1.0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  // DRY, by llama.cpp's names; a multiplier of 0 = off.
  double dry_multiplier = 0;
  double dry_base = 1.75;
  int64_t dry_allowed_length = 2;
  int64_t dry_penalty_last_n = -1;  // -1 = everything
  std::vector<std::string> dry_sequence_breakers = {"\n", ":", "\"", "*"};
  std::vector<std::pair<TokenId, double>> logit_bias;
  std::optional<uint64_t> seed;
  int64_t n = 1;        // answers to each prompt
  int64_t best_of = 1;  // answers generated, of which the n best are sent; at least n
  std::optional<int64_t> max_tokens;  // absent: the route's default
  int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool include_stop_in_output = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  std::optional<int64_t> logprobs;  // how many of the likeliest tokens to list beside each; absent: no log-probabilities
  std::optional<int64_t> prompt_logprobs;
  bool echo = false;              // the prompt before the answer
  bool return_token_ids = false;  // of prompt and answer
  bool tokens_as_ids = false;     // log-probabilities name tokens "token_id:42"
  int64_t priority = 0;           // lower goes first where the engine schedules by priority
  std::string cache_salt;  // prefixes are shared only between requests of equal salt
  double timeout_seconds = 0;  // from arrival to the last token; 0 = the server's own limit
  bool stream = false;
  bool include_usage = false;  // one more chunk, at the end, with the usage
};

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 4096;
inline constexpr int64_t kMaxListedLogprobs = 20;
inline constexpr int64_t kMaxAnswers = 128;  // to one prompt
inline constexpr size_t kMaxBiasedTokens = 1024;
inline constexpr size_t kMaxSequenceBreakers = 64;

GenerationOptions read_generation_options(FieldReader& fields);
// What has to fit together, once the route has read its own fields too.
void check_generation_options(FieldReader& fields, const GenerationOptions& options);

// An array of token ids; what is wrong with it goes to `fields` under `name`.
std::vector<TokenId> read_token_ids(FieldReader& fields, std::string_view name, const Json& array);

}  // namespace crible
