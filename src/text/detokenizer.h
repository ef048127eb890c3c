// Streaming detokenisation: tokens in, valid UTF-8 out as soon as it is complete. A token that ends
// inside a character is held back until the next completes it; bytes that no continuation can
// complete become U+FFFD. All pieces joined equal Tokenizer::decode of all tokens, but
// for the space at the beginning that some vocabularies put before a text: a generation goes on
// after its prompt, so it is kept here.
// One generation, one detokenizer; not thread-safe.
#pragma once

#include <memory>
#include <string>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace crible {

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  // Appends what has become complete. id must be in the vocabulary.
  void push(TokenId id, std::string& out) {
    if (skip_special_ && tokenizer_->is_control(id)) return;
    stream_.push(tokenizer_->token_bytes(id), out);
  }
  std::string push(TokenId id) {
    std::string out;
    push(id, out);
    return out;
  }
  // The end: what is still held back comes out as U+FFFD.
  std::string flush() {
    std::string out;
    stream_.flush(out);
    return out;
  }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  Utf8Stream stream_;
  bool skip_special_;
};

}  // namespace crible
