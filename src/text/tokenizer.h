// Text to token ids and back. One class whatever the source of the vocabulary (GGUF keys today) and
// whatever the model behind it (byte-level BPE today).
// Immutable, safe to share between threads; holds everything it needs, so the file may be closed.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "format/gguf.h"
#include "text/bpe.h"
#include "text/pre_tokenizer.h"
#include "text/token_trie.h"
#include "text/vocabulary.h"

namespace crible {

struct EncodeOptions {
  bool add_special = false;    // begin/end-of-sequence tokens, where the model's file asks for them
  bool parse_special = false;  // "<|im_end|>" in the text is the control token and not its letters
};

class Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> from_gguf(const GgufFile& file);
  static Result<std::shared_ptr<const Tokenizer>> from_vocabulary(const Vocabulary& vocabulary);

  // text: below 2 GiB. A byte that belongs to no UTF-8 sequence is taken as U+FFFD. A byte for which
  // the vocabulary has no token (SmolLM2: a few control characters and F1, F2) yields none.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;

  // The exact bytes of a token, possibly part of a character. Special tokens: their literal text.
  std::string_view token_bytes(TokenId id) const;
  // The same as valid UTF-8, for display.
  std::string token_text(TokenId id) const;
  // All tokens' bytes, joined, then made valid UTF-8 (U+FFFD as in Detokenizer).
  // skip_special leaves out control and unknown tokens.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;
  // kInvalidArgument for an id outside the vocabulary. The functions that take an id CHECK it.
  Status check_ids(std::span<const TokenId> ids) const;
  // The token whose bytes are exactly these; of several, a special one first, then the lowest id.
  std::optional<TokenId> find_token(std::string_view bytes) const;

  int64_t vocabulary_size() const { return static_cast<int64_t>(flags_.size()); }
  std::optional<TokenId> bos() const { return bos_; }
  std::optional<TokenId> eos() const { return eos_; }
  std::optional<TokenId> eot() const { return eot_; }  // end of a chat turn, if told apart from eos
  std::optional<TokenId> pad() const { return pad_; }
  bool adds_bos() const { return add_bos_; }
  bool adds_eos() const { return add_eos_; }
  // Control and unknown tokens: never part of the text that a user sees.
  bool is_control(TokenId id) const { return flags(id) & kControlFlag; }
  // A generation ends here: eos, eot, and the end tokens that chat models are known to use.
  bool is_end_of_generation(TokenId id) const { return flags(id) & kEndFlag; }

 private:
  static constexpr uint8_t kControlFlag = 1;
  static constexpr uint8_t kEndFlag = 2;

  Tokenizer(MergeTable merges, PreTokenizer pre_tokenizer)
      : merges_(std::move(merges)), pre_tokenizer_(std::move(pre_tokenizer)) {}
  void store_tokens(const Vocabulary& vocabulary);
  void mark_ends(const Vocabulary& vocabulary);
  uint8_t flags(TokenId id) const;

  MergeTable merges_;
  PreTokenizer pre_tokenizer_;
  TokenTrie special_;            // control, unknown and user-defined tokens
  TokenTrie user_defined_;       // those that stand for themselves even in a user's text
  std::string bytes_;            // all tokens' bytes, back to back
  std::vector<size_t> offsets_;  // vocabulary_size + 1 places in bytes_
  std::vector<uint8_t> flags_;
  std::unordered_map<std::string_view, TokenId> by_bytes_;  // views into bytes_
  std::optional<TokenId> bos_, eos_, eot_, pad_;
  bool add_bos_ = false;
  bool add_eos_ = false;
};

}  // namespace crible
