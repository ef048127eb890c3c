// The fields that /v1/completions and /v1/chat/completions share: sampling, stopping, streaming.
// Names and defaults are OpenAI's, extended by vLLM's; those of the protocol that this server does
// not act on are accepted only at the value that asks for nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/units.h"
#include "wire/field_reader.h"

namespace crible {

struct GenerationOptions {
  std::string model;  // empty: not named
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;  // 0 = off; clients also send -1
  std::optional<uint64_t> seed;
  std::optional<int64_t> max_tokens;  // absent: the route's default
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  bool include_stop_in_output = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  std::string cache_salt;  // prefixes are shared only between requests of equal salt
  bool stream = false;
  bool include_usage = false;  // one more chunk, at the end, with the usage
};

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 4096;

GenerationOptions read_generation_options(FieldReader& fields);

// An array of token ids; what is wrong with it goes to `fields` under `name`.
std::vector<TokenId> read_token_ids(FieldReader& fields, std::string_view name, const Json& array);

}  // namespace crible
