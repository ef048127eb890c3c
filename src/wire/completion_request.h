// The body of POST /v1/completions.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "wire/generation_options.h"

namespace crible {

using Prompt = std::variant<std::string, std::vector<TokenId>>;

struct CompletionRequest {
  GenerationOptions options;
  std::vector<Prompt> prompts;
  bool add_special_tokens = true;
};

inline constexpr size_t kMaxPrompts = 256;
inline constexpr size_t kMaxSequences = 1024;  // prompts times answers to each

ApiResult<CompletionRequest> read_completion_request(const Json& body);

}  // namespace crible
