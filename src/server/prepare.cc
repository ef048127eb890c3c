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

std::optional<int32_t> narrow(const std::optional<int64_t>& count) {
  return count ? std::optional<int32_t>(static_cast<int32_t>(*count)) : std::nullopt;
}

// A breaker is every token that contains one of the strings. A string that no token contains breaks where its last
// token stands.
std::vector<TokenId> sequence_breakers(const std::vector<std::string>& strings, const Tokenizer& tokenizer) {
  std::vector<TokenId> breakers;
  for (const std::string& text : strings) {
    const size_t before = breakers.size();
    for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
      if (tokenizer.token_bytes(id).find(text) != std::string_view::npos) breakers.push_back(id);
    }
    if (breakers.size() > before) continue;
    const std::vector<TokenId> spelt = tokenizer.encode(text);
    if (!spelt.empty()) breakers.push_back(spelt.back());
  }
  return breakers;
}

SamplingParams sampling_params(const GenerationOptions& options, const TextModel& text) {
  SamplingParams sampling;
  sampling.temperature = static_cast<float>(options.temperature);
  sampling.top_p = static_cast<float>(options.top_p);
  sampling.top_k = static_cast<int32_t>(options.top_k);
  sampling.min_p = static_cast<float>(options.min_p);
  sampling.typical_p = static_cast<float>(options.typical_p);
  sampling.repetition_penalty = static_cast<float>(options.repetition_penalty);
  sampling.presence_penalty = static_cast<float>(options.presence_penalty);
  sampling.frequency_penalty = static_cast<float>(options.frequency_penalty);
  sampling.dry = {.multiplier = static_cast<float>(options.dry_multiplier),
                  .base = static_cast<float>(options.dry_base),
                  .allowed_length = options.dry_allowed_length,
                  .range = options.dry_penalty_last_n};
  if (options.dry_multiplier > 0) {
    sampling.dry_breakers = sequence_breakers(options.dry_sequence_breakers, *text.tokenizer);
  }
  for (const auto& [id, bias] : options.logit_bias) sampling.logit_bias.push_back({id, static_cast<float>(bias)});
  sampling.seed = options.seed;
  sampling.min_tokens = options.min_tokens;
  sampling.stop_token_ids = options.stop_token_ids;
  sampling.logprobs = narrow(options.logprobs);
  sampling.prompt_logprobs = narrow(options.prompt_logprobs);
  // Log-probabilities of an echoed prompt come with those of the answer; to choose the best answers takes them too.
  if (options.echo && options.logprobs) {
    sampling.prompt_logprobs = std::max(sampling.prompt_logprobs.value_or(0), *sampling.logprobs);
  }
  if (options.best_of > options.n && !sampling.logprobs) sampling.logprobs = 0;
  // ignore_eos is about the model's own end tokens; those the caller names still stop. So it is
  // settled here, by which tokens stop, and the engine needs no word of it.
  if (!options.ignore_eos) {
    const auto& ends = text.end_of_generation;
    sampling.stop_token_ids.insert(sampling.stop_token_ids.end(), ends.begin(), ends.end());
  }
  return sampling;
}

ApiResult<PreparedPrompt> tokenize_prompt(Prompt prompt, bool add_special, const TextModel& text) {
  if (const auto* written = std::get_if<std::string>(&prompt)) {
    PreparedPrompt prepared{.tokens = text.tokenizer->encode(*written, {.add_special = add_special, .parse_special = true})};
    const bool begun = add_special && text.tokenizer->adds_bos() && !prepared.tokens.empty();
    prepared.text_from = begun && prepared.tokens.front() == text.tokenizer->bos() ? 1 : 0;
    return prepared;
  }
  PreparedPrompt prepared{.tokens = std::get<std::vector<TokenId>>(std::move(prompt))};
  if (auto status = text.tokenizer->check_ids(prepared.tokens); !status) {
    return bad_field("prompt", status.error().message);
  }
  return prepared;
}

ApiResult<void> check_token_ids(const GenerationOptions& options, const Tokenizer& tokenizer) {
  if (auto known = tokenizer.check_ids(options.stop_token_ids); !known) {
    return bad_field("stop_token_ids", known.error().message);
  }
  for (const auto& [id, bias] : options.logit_bias) {
    if (auto known = tokenizer.check_ids(std::span(&id, 1)); !known) return bad_field("logit_bias", known.error().message);
  }
  return {};
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
  prepared.prompts.push_back({.tokens = std::move(*tokens)});
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
  for (const PreparedPrompt& prompt : prepared->prompts) {
    if (auto fits = check_prompt_length(prompt.tokens, model); !fits) return error_of(fits);
    longest = std::max(longest, static_cast<int64_t>(prompt.tokens.size()));
  }
  if (auto known = check_token_ids(prepared->options, *model.text.tokenizer); !known) return error_of(known);
  prepared->sampling = sampling_params(prepared->options, model.text);
  const int64_t rest_of_context = model.max_model_len - longest;
  prepared->sampling.max_tokens = prepared->options.max_tokens.value_or(
      kind == CompletionKind::kChat ? rest_of_context : kDefaultCompletionTokens);
  // Asked for no token, the engine still draws one, which is not shown: the prompt is scored on the way to it.
  prepared->sampling.max_tokens = std::max<int64_t>(prepared->sampling.max_tokens, 1);
  if (!prepared->options.max_tokens && prepared->options.min_tokens > prepared->sampling.max_tokens) {
    return bad_field("min_tokens", fmt::format("is {}, more than the {} tokens that are generated at most; send max_tokens",
                                               prepared->options.min_tokens, prepared->sampling.max_tokens));
  }
  prepared->cache_salt = salt_of(prepared->options.cache_salt);
  return prepared;
}

}  // namespace crible
