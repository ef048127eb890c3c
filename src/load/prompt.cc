#include "load/prompt.h"

#include <nlohmann/json.hpp>

#include "load/completion_frame.h"
#include "load/words.h"

namespace crible::load {
namespace {

using nlohmann::json;

constexpr size_t kFewestWords = 64;
constexpr std::chrono::seconds kTokenizeTimeout{10};

Result<std::vector<TokenId>> tokenize(HttpCaller& server, const std::string& model, const std::string& text) {
  const json body = {{"model", model}, {"prompt", text}, {"add_special_tokens", false}};
  CRIBLE_TRY(const HttpReply reply, server.call("POST", "/tokenize", body.dump(), kTokenizeTimeout));
  if (reply.code != 200) {
    return fail(ErrorCode::kUnsupported,
                "POST /tokenize answered {}: {}; the study needs it to make prompts of exact length",
                reply.code, error_message(reply.body));
  }
  const json parsed = json::parse(reply.body, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("tokens") || !parsed["tokens"].is_array()) {
    return fail(ErrorCode::kUnsupported, "POST /tokenize answered without a list of tokens: {}",
                reply.body.substr(0, 200));
  }
  std::vector<TokenId> ids;
  for (const json& id : parsed["tokens"]) {
    if (!id.is_number_integer())
      return fail(ErrorCode::kUnsupported, "POST /tokenize answered a token that is no integer");
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

json request_base(const std::string& model, int output_tokens, bool ignore_eos) {
  json body = {{"model", model},
               {"max_tokens", output_tokens},
               {"temperature", 0},
               {"stream", true},
               {"stream_options", {{"include_usage", true}}}};
  if (ignore_eos) body["ignore_eos"] = true;
  return body;
}

// Keeps the words of `words` that are one token. A group whose count is its size holds only such
// words, because every word is at least one token; any other group is halved.
Status keep_single_tokens(HttpCaller& server, const std::string& model,
                          std::span<const std::string_view> words, WordPool& pool) {
  std::string text;
  for (const std::string_view word : words) text.append(" ").append(word);
  CRIBLE_TRY(const std::vector<TokenId> ids, tokenize(server, model, text));
  if (ids.size() == words.size()) {
    pool.words.insert(pool.words.end(), words.begin(), words.end());
    pool.ids.insert(pool.ids.end(), ids.begin(), ids.end());
    return {};
  }
  if (words.size() == 1) return {};
  CRIBLE_RETURN_IF_ERROR(keep_single_tokens(server, model, words.first(words.size() / 2), pool));
  return keep_single_tokens(server, model, words.subspan(words.size() / 2), pool);
}

}  // namespace

Result<WordPool> learn_word_pool(HttpCaller& server, const std::string& model) {
  WordPool pool;
  CRIBLE_RETURN_IF_ERROR(keep_single_tokens(server, model, english_words(), pool));
  if (pool.words.size() < kFewestWords) {
    return fail(ErrorCode::kUnsupported,
                "only {} of {} common words are one token to this server; {} are needed", pool.words.size(),
                english_words().size(), kFewestWords);
  }
  return pool;
}

void PromptMaker::append_tokens(int count, std::vector<TokenId>& tokens) {
  for (int i = 0; i < count; ++i) tokens.push_back(pool_.ids[pick()]);
}

std::vector<TokenId> PromptMaker::tokens(int count) {
  std::vector<TokenId> result;
  result.reserve(static_cast<size_t>(count));
  append_tokens(count, result);
  return result;
}

std::string PromptMaker::text(int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += " " + pool_.words[pick()];
  return result;
}

std::string completion_body(const std::string& model, std::span<const TokenId> prompt, int output_tokens,
                            bool ignore_eos) {
  json body = request_base(model, output_tokens, ignore_eos);
  body["prompt"] = prompt;
  return body.dump();
}

std::string chat_body(const std::string& model, std::span<const ChatMessage> messages, int output_tokens,
                      bool ignore_eos) {
  json body = request_base(model, output_tokens, ignore_eos);
  json list = json::array();
  for (const ChatMessage& message : messages)
    list.push_back({{"role", message.role}, {"content", message.content}});
  body["messages"] = std::move(list);
  return body.dump();
}

}  // namespace crible::load
