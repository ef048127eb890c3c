#define XXH_INLINE_ALL
#include "server/prepare.h"

#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/chat_template.h"
#include "wire/completion_request.h"
#include "wire/json_text.h"

namespace crible {
namespace {

constexpr int64_t kDefaultCompletionTokens = 16;  // OpenAI's

SamplingParams sampling_params(const GenerationOptions& options, const TextModel& text) {
  SamplingParams sampling;
  sampling.temperature = static_cast<float>(options.temperature);
  sampling.top_p = static_cast<float>(options.top_p);
  sampling.top_k = static_cast<int32_t>(options.top_k);
  sampling.seed = options.seed;
  sampling.stop_token_ids = options.stop_token_ids;
  // ignore_eos is about the model's own end tokens; those the caller names still stop. So it is
  // settled here, by which tokens stop, and the engine needs no word of it.
  if (!options.ignore_eos) {
    const auto& ends = text.end_of_generation;
    sampling.stop_token_ids.insert(sampling.stop_token_ids.end(), ends.begin(), ends.end());
  }
  return sampling;
}

ApiResult<std::vector<TokenId>> tokenize_prompt(Prompt prompt, bool add_special, const TextModel& text) {
  if (const auto* written = std::get_if<std::string>(&prompt)) {
    return text.tokenizer->encode(*written, {.add_special = add_special, .parse_special = true});
  }
  auto ids = std::get<std::vector<TokenId>>(std::move(prompt));
  if (auto status = text.tokenizer->check_ids(ids); !status) return bad_field("prompt", status.error().message);
  return ids;
}

ApiResult<void> check_prompt_length(const std::vector<TokenId>& prompt, const ServedModel& model) {
  const auto tokens = static_cast<int64_t>(prompt.size());
  if (tokens == 0) return bad_field("prompt", "the prompt holds no token; send at least one");
  if (tokens < model.max_model_len) return {};
  ApiError error{.message = fmt::format("the prompt has {} tokens, but prompt and output together may have {} "
                                        "(max-model-len); shorten the prompt",
                                        tokens, model.max_model_len),
                 .param = "prompt",
                 .code = "context_length_exceeded"};
  return tl::unexpected<ApiError>(std::move(error));
}

uint64_t salt_of(const std::string& cache_salt) {
  return cache_salt.empty() ? 0 : XXH3_64bits(cache_salt.data(), cache_salt.size());
}

template <typename T>
tl::unexpected<ApiError> error_of(const ApiResult<T>& result) {
  return tl::unexpected<ApiError>(result.error());
}

ApiResult<PreparedCompletion> prepare_text(const Json& body, const ServedModel& model) {
  auto request = read_completion_request(body);
  if (!request) return error_of(request);
  PreparedCompletion prepared{.kind = CompletionKind::kText, .options = std::move(request->options)};
  for (Prompt& prompt : request->prompts) {
    auto tokens = tokenize_prompt(std::move(prompt), request->add_special_tokens, model.text);
    if (!tokens) return error_of(tokens);
    prepared.prompts.push_back(std::move(*tokens));
  }
  return prepared;
}

ApiResult<PreparedCompletion> prepare_chat(const Json& body, const ServedModel& model) {
  auto request = read_chat_request(body);
  if (!request) return error_of(request);
  auto tokens = tokenize_conversation(request->conversation, model.text);
  if (!tokens) return error_of(tokens);
  PreparedCompletion prepared{.kind = CompletionKind::kChat, .options = std::move(request->options)};
  prepared.prompts.push_back(std::move(*tokens));
  return prepared;
}

}  // namespace

ApiResult<void> check_model_name(const std::string& asked, const ServedModel& model) {
  if (asked.empty() || asked == model.name) return {};
  return tl::unexpected<ApiError>(ApiError{
      .status = 404,
      .type = "not_found_error",
      .message = fmt::format("the model '{}' does not exist here; this server serves '{}'", asked, model.name),
      .param = "model",
      .code = "model_not_found"});
}

ApiResult<std::vector<TokenId>> tokenize_conversation(const Conversation& conversation, const TextModel& text) {
  if (!text.chat_template) {
    return bad_field("messages", "this model's file has no chat template; use /v1/completions");
  }
  const auto rendered = text.chat_template->render({.messages = conversation.messages,
                                                    .tools = nullptr,
                                                    .add_generation_prompt = conversation.add_generation_prompt,
                                                    .bos_token = text.bos_text,
                                                    .eos_token = text.eos_text,
                                                    .extra = conversation.template_parameters});
  if (!rendered) {
    return bad_field("messages", fmt::format("the model's chat template refuses this conversation: {}",
                                             rendered.error().message));
  }
  return text.tokenizer->encode(*rendered, {.add_special = conversation.add_special_tokens, .parse_special = true});
}

ApiResult<PreparedCompletion> prepare_completion(CompletionKind kind, const std::string& body,
                                                 const ServedModel& model) {
  const auto document = parse_json(body);
  if (!document) return error_of(document);
  auto prepared = kind == CompletionKind::kChat ? prepare_chat(*document, model) : prepare_text(*document, model);
  if (!prepared) return prepared;
  if (auto named = check_model_name(prepared->options.model, model); !named) return error_of(named);
  int64_t longest = 0;
  for (const auto& prompt : prepared->prompts) {
    if (auto fits = check_prompt_length(prompt, model); !fits) return error_of(fits);
    longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  }
  prepared->sampling = sampling_params(prepared->options, model.text);
  const int64_t rest_of_context = model.max_model_len - longest;
  prepared->sampling.max_tokens = prepared->options.max_tokens.value_or(
      kind == CompletionKind::kChat ? rest_of_context : kDefaultCompletionTokens);
  prepared->cache_salt = salt_of(prepared->options.cache_salt);
  return prepared;
}

}  // namespace crible
