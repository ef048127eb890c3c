// Log-probabilities of tokens in the three forms that clients know: OpenAI's of completions (parallel arrays),
// OpenAI's of chats (a list with bytes) and vLLM's of prompts (a map by token id). A token's bytes may be part of a
// character: where a string is called for they then stand as "\xf0\x9f", behind "bytes:" in completions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "wire/completion_response.h"

namespace crible {

struct ScoredToken {
  TokenId id;
  std::string_view bytes;  // of the tokenizer's, which must outlive this
  float logprob;           // NaN: none, as for the first token of a prompt
  int32_t rank;            // 1 = the likeliest
  bool partial;            // the bytes are no valid UTF-8 by themselves
};

// Tokens in order, each with its own score and those of the likeliest in its place.
class TokenScores {
 public:
  void begin_token(int64_t text_offset) { tokens_.push_back({text_offset, scored_.size()}); }
  // The token's own score first, then the likeliest.
  void add(const ScoredToken& scored) {
    scored_.push_back(scored);
    tokens_.back().end = scored_.size();
  }
  // The tokens from..to of another list.
  void append(const TokenScores& other, size_t from, size_t to);
  void clear();

  size_t size() const { return tokens_.size(); }
  int64_t text_offset(size_t token) const { return tokens_[token].text_offset; }
  const ScoredToken& own(size_t token) const { return scored_[begin(token)]; }
  const ScoredToken* top(size_t token) const { return scored_.data() + begin(token) + 1; }
  size_t num_top(size_t token) const { return tokens_[token].end - begin(token) - 1; }
  size_t bytes() const { return tokens_.size() * sizeof(Token) + scored_.size() * sizeof(ScoredToken); }

 private:
  struct Token {
    int64_t text_offset;  // in characters (code points) of the choice's text: where what the token adds begins
    size_t end;           // of its scores
  };
  size_t begin(size_t token) const { return token == 0 ? 0 : tokens_[token - 1].end; }

  std::vector<Token> tokens_;
  std::vector<ScoredToken> scored_;
};

// Each appends one JSON value. as_ids: "token_id:42" in place of every token's text.
// Tokens from..to as {"text_offset","token_logprobs","tokens","top_logprobs"}; the token itself is among its top.
void append_completion_logprobs(std::string& out, const TokenScores& scores, size_t from, size_t to, bool as_ids);
// Tokens from..to as {"content":[{"token","logprob","bytes","top_logprobs"}],"refusal":null}.
void append_chat_logprobs(std::string& out, const TokenScores& scores, size_t from, size_t to, bool as_ids);
// Whichever of the two the kind of completion takes.
void append_logprobs(std::string& out, CompletionKind kind, const TokenScores& scores, size_t from, size_t to,
                     bool as_ids);
// All tokens as [null,{"42":{"logprob","rank","decoded_token"}}].
void append_prompt_logprobs(std::string& out, const TokenScores& scores);

}  // namespace crible
