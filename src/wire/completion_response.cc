#include "wire/completion_response.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>

#include "wire/json_text.h"

namespace crible {
namespace {

void append_integer(std::string& out, int64_t value) {
  const fmt::format_int digits(value);
  out.append(digits.data(), digits.size());
}

void append_head(std::string& out, const ReplyIdentity& identity, std::string_view object) {
  out += R"({"id":)";
  append_json_string(out, identity.id);
  out += R"(,"object":")";
  out += object;
  out += R"(","created":)";
  append_integer(out, identity.created);
  out += R"(,"model":)";
  append_json_string(out, identity.model);
  out += R"(,"system_fingerprint":)";
  append_json_string(out, identity.system_fingerprint);
  out += R"(,"choices":[)";
}

void append_ids(std::string& out, std::string_view name, const std::optional<std::span<const TokenId>>& ids) {
  if (!ids) return;
  fmt::format_to(std::back_inserter(out), R"(,"{}":[{}])", name, fmt::join(*ids, ","));
}

void append_logprobs(std::string& out, std::string_view logprobs) {
  out += R"(,"logprobs":)";
  out += logprobs.empty() ? "null" : logprobs;
}

void append_prompt_field(std::string& out, const Choice& choice) {
  if (choice.prompt_logprobs.empty()) return;
  out += R"(,"prompt_logprobs":)";
  out += choice.prompt_logprobs;
}

// A chat has one prompt, and what is told of it stands beside the choices; else beside each choice's text.
void append_choice_object(std::string& out, CompletionKind kind, size_t index, const Choice& choice) {
  out += R"({"index":)";
  append_integer(out, static_cast<int64_t>(index));
  out += kind == CompletionKind::kChat ? R"(,"message":{"role":"assistant","content":)" : R"(,"text":)";
  append_json_string(out, choice.text);
  if (kind == CompletionKind::kChat) out += R"(,"refusal":null})";
  append_logprobs(out, choice.logprobs);
  out += R"(,"finish_reason":)";
  append_json_string(out, choice.finish_reason);
  append_ids(out, "token_ids", choice.token_ids);
  if (kind == CompletionKind::kText) {
    append_ids(out, "prompt_token_ids", choice.prompt_token_ids);
    append_prompt_field(out, choice);
  }
  out += '}';
}

void append_usage_object(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                 R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                 usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens + usage.completion_tokens,
                 usage.cached_tokens);
}

}  // namespace

std::string completion_body(CompletionKind kind, const ReplyIdentity& identity, const std::vector<Choice>& choices,
                            const Usage& usage) {
  std::string out;
  append_head(out, identity, kind == CompletionKind::kChat ? "chat.completion" : "text_completion");
  for (size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) out += ',';
    append_choice_object(out, kind, i, choices[i]);
  }
  out += ']';
  if (kind == CompletionKind::kChat) {
    append_ids(out, "prompt_token_ids", choices.front().prompt_token_ids);
    append_prompt_field(out, choices.front());
  }
  out += R"(,"usage":)";
  append_usage_object(out, usage);
  out += '}';
  return out;
}

ChunkWriter::ChunkWriter(CompletionKind kind, const ReplyIdentity& identity, bool with_usage)
    : kind_(kind), tail_(with_usage ? ",\"usage\":null}\n\n" : "}\n\n") {
  head_ = "data: ";
  append_head(head_, identity, kind == CompletionKind::kChat ? "chat.completion.chunk" : "text_completion");
}

void ChunkWriter::append_choice(std::string& out, int index, std::string_view before_text, std::string_view text,
                                std::string_view after_text, std::string_view finish_reason,
                                const ChunkExtras& extras) const {
  out += head_;
  out += R"({"index":)";
  append_integer(out, index);
  out += before_text;
  append_json_string(out, text);
  out += after_text;
  append_logprobs(out, extras.logprobs);
  out += R"(,"finish_reason":)";
  if (finish_reason.empty()) {
    out += "null";
  } else {
    append_json_string(out, finish_reason);
  }
  append_ids(out, "token_ids", extras.token_ids);
  if (kind_ == CompletionKind::kText) append_ids(out, "prompt_token_ids", extras.prompt_token_ids);
  out += "}]";
  if (kind_ == CompletionKind::kChat) append_ids(out, "prompt_token_ids", extras.prompt_token_ids);
  out += tail_;
}

void ChunkWriter::append_role(std::string& out, int index) const {
  append_choice(out, index, R"(,"delta":{"role":"assistant","content":)", "", "}", {}, {});
}

void ChunkWriter::append_text(std::string& out, int index, std::string_view text, const ChunkExtras& extras) const {
  if (kind_ == CompletionKind::kChat) {
    append_choice(out, index, R"(,"delta":{"content":)", text, "}", {}, extras);
  } else {
    append_choice(out, index, R"(,"text":)", text, "", {}, extras);
  }
}

void ChunkWriter::append_finish(std::string& out, int index, std::string_view finish_reason) const {
  if (kind_ == CompletionKind::kText) return append_choice(out, index, R"(,"text":)", "", "", finish_reason, {});
  out += head_;
  fmt::format_to(std::back_inserter(out), R"({{"index":{},"delta":{{}},"logprobs":null,"finish_reason":"{}"}}])", index,
                 finish_reason);
  out += tail_;
}

void ChunkWriter::append_usage(std::string& out, const Usage& usage) const {
  out += head_;
  out += R"(],"usage":)";
  append_usage_object(out, usage);
  out += "}\n\n";
}

}  // namespace crible
