// The bodies of POST /tokenize and POST /detokenize, in vLLM's shapes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "wire/chat_request.h"

namespace crible {

struct TokenizeRequest {
  std::string model;
  std::string prompt;                        // when there is no conversation
  std::optional<Conversation> conversation;  // "messages" was sent instead
  bool add_special_tokens = true;            // of the prompt
  bool return_token_strings = false;
};

struct DetokenizeRequest {
  std::string model;
  std::vector<TokenId> tokens;
};

ApiResult<TokenizeRequest> read_tokenize_request(const Json& body);
ApiResult<DetokenizeRequest> read_detokenize_request(const Json& body);

}  // namespace crible
