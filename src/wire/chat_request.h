// The body of POST /v1/chat/completions, and the conversation part that /tokenize shares with it.
#pragma once

#include <nlohmann/json.hpp>

#include "wire/generation_options.h"

namespace crible {

// What the chat template gets to see.
struct Conversation {
  Json messages;             // checked: an array of {role, content: string, name?}
  Json template_parameters;  // chat_template_kwargs: an object
  bool add_generation_prompt = true;
  bool add_special_tokens = false;  // templates write these themselves
};

struct ChatRequest {
  GenerationOptions options;
  Conversation conversation;
};

// Takes messages, chat_template_kwargs and their neighbours from `fields`.
Conversation read_conversation(FieldReader& fields);
ApiResult<ChatRequest> read_chat_request(const Json& body);

}  // namespace crible
