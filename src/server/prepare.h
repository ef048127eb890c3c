// From the body of a request to what the engine takes: parsed, checked, rendered through the chat
// template, tokenised. Pure functions of immutable values: they run on any thread.
#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "text/text_model.h"
#include "wire/api_error.h"
#include "wire/chat_request.h"
#include "wire/completion_response.h"
#include "wire/generation_options.h"

namespace crible {

struct PreparedPrompt {
  std::vector<TokenId> tokens;
  size_t text_from = 0;  // tokens before this one were added by the server: an echo leaves them out
};

struct PreparedCompletion {
  CompletionKind kind = CompletionKind::kText;
  GenerationOptions options;
  std::vector<PreparedPrompt> prompts;
  SamplingParams sampling;
  uint64_t cache_salt = 0;
};

// What a request is checked against.
struct ServedModel {
  const TextModel& text;
  std::string_view name;      // as clients call it
  int64_t max_model_len = 0;  // tokens, prompt and output together
};

ApiResult<PreparedCompletion> prepare_completion(CompletionKind kind, const std::string& body,
                                                 const ServedModel& model);

// 404 unless the request names no model or this one.
ApiResult<void> check_model_name(const std::string& asked, const ServedModel& model);

ApiResult<std::vector<TokenId>> tokenize_conversation(const Conversation& conversation, const TextModel& text);

}  // namespace crible
