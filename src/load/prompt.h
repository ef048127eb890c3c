// Prompts of an exact number of tokens, different for every seed. They are made of words that the
// server's own tokenizer turns into exactly one token each, so that a prompt has its length whether it
// is sent as ids or as text inside a chat template.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "load/http_call.h"

namespace crible::load {

// words[i], with a space before it, is the one token ids[i].
struct WordPool {
  std::vector<std::string> words;
  std::vector<TokenId> ids;
};

// Asks the server's /tokenize. kUnsupported if it has none or too few words are one token.
Result<WordPool> learn_word_pool(HttpCaller& server, const std::string& model);

// A stream of random words. Two makers of different seeds agree in a 16-token block with a
// probability of about words^-16: never.
class PromptMaker {
 public:
  PromptMaker(const WordPool& pool, uint64_t seed) : pool_(pool), random_(seed) {}

  void append_tokens(int count, std::vector<TokenId>& tokens);
  std::vector<TokenId> tokens(int count);
  // " river stone ...": `count` tokens when preceded by text that ends a word.
  std::string text(int count);

 private:
  size_t pick() { return random_() % pool_.words.size(); }

  const WordPool& pool_;
  std::mt19937_64 random_;
};

struct ChatMessage {
  std::string role;
  std::string content;
};

// Bodies of streamed greedy requests with usage. ignore_eos: exactly output_tokens come back.
std::string completion_body(const std::string& model, std::span<const TokenId> prompt, int output_tokens,
                            bool ignore_eos);
std::string chat_body(const std::string& model, std::span<const ChatMessage> messages, int output_tokens,
                      bool ignore_eos);

}  // namespace crible::load
