// Replies of the two completion routes, whole and as the chunks of a stream. Chunks are put together
// by hand into a buffer of the caller's: no document and, once the buffer has grown, no allocation
// per token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace crible {

enum class CompletionKind { kText, kChat };

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, taken from the prefix cache
};

// What stands in every chunk of one reply.
struct ReplyIdentity {
  std::string id;
  int64_t created = 0;  // seconds since the Unix epoch
  std::string model;
  std::string system_fingerprint;  // changes with what may change results
};

struct Choice {
  std::string text;
  std::string_view finish_reason;  // "stop", "length", "abort"
  std::string logprobs;            // JSON (logprobs.h); empty: null
  std::string prompt_logprobs;     // JSON; empty: left out. A chat's reply has those of its first choice
  std::optional<std::vector<TokenId>> token_ids, prompt_token_ids;  // left out unless asked for
};

// What a chunk of a stream carries beside text, where asked for. Everything must outlive the call.
struct ChunkExtras {
  std::string_view logprobs;  // JSON; empty: null
  std::optional<std::span<const TokenId>> token_ids;
  std::optional<std::span<const TokenId>> prompt_token_ids;
};

// The body of a reply that is not streamed; choices in the order of the prompts.
std::string completion_body(CompletionKind kind, const ReplyIdentity& identity, const std::vector<Choice>& choices,
                            const Usage& usage);

class ChunkWriter {
 public:
  // with_usage: every chunk has a "usage" field, null but in the last (OpenAI's include_usage).
  ChunkWriter(CompletionKind kind, const ReplyIdentity& identity, bool with_usage);

  // Each appends one event. The first chunk of a chat choice carries the role and no token.
  void append_role(std::string& out, int index) const;
  void append_text(std::string& out, int index, std::string_view text, const ChunkExtras& extras = {}) const;
  void append_finish(std::string& out, int index, std::string_view finish_reason) const;
  void append_usage(std::string& out, const Usage& usage) const;

 private:
  void append_choice(std::string& out, int index, std::string_view before_text, std::string_view text,
                     std::string_view after_text, std::string_view finish_reason, const ChunkExtras& extras) const;

  CompletionKind kind_;
  std::string head_;  // from "data: {" to the opening bracket of "choices"
  std::string_view tail_;
};

}  // namespace crible
