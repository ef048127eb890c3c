// Text to token ids and back. One class whatever the source of the vocabulary (GGUF keys, a
// tokenizer.json) and whatever the model behind it (byte-level BPE, BPE over characters,
// SentencePiece's scored merges).
// Immutable, safe to share between threads; holds everything it needs, so the file may be closed.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "format/gguf.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/scored_merges.h"
#include "text/token_text.h"
#include "text/vocabulary.h"

namespace crible {

struct EncodeOptions {
  bool add_special = false;    // begin/end-of-sequence tokens, where the model's file asks for them
  bool parse_special = false;  // "<|im_end|>" in the text is the control token and not its letters
};

// Everything that a tokenizer is made of.
struct TokenizerParts {
  Vocabulary vocabulary;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenTextRules text_rules;
  std::vector<TokenId> prefix, suffix;  // what add_special puts around a text
};

class Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> from_gguf(const GgufFile& file);
  // The vocabulary of a GGUF file: its own fields say what is put around and between.
  static Result<std::shared_ptr<const Tokenizer>> from_vocabulary(Vocabulary vocabulary);
  static Result<std::shared_ptr<const Tokenizer>> make(TokenizerParts parts);

  // text: below 2 GiB. A byte that belongs to no UTF-8 sequence is taken as U+FFFD. What the
  // vocabulary has no token for (SmolLM2: a few control characters and F1, F2) yields none.
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const;

  // The exact bytes of a token, possibly part of a character. Special tokens: their literal text;
  // tokens that the model has and the vocabulary does not use: none.
  std::string_view token_bytes(TokenId id) const;
  // The same as valid UTF-8, for display.
  std::string token_text(TokenId id) const;
  // All tokens' bytes, joined, then made valid UTF-8 (U+FFFD as in Detokenizer), without the space
  // that encoding puts before a text where the vocabulary's kind does that.
  // skip_special leaves out control and unknown tokens.
  std::string decode(std::span<const TokenId> ids, bool skip_special) const;
  // kInvalidArgument for an id outside the vocabulary. The functions that take an id CHECK it.
  Status check_ids(std::span<const TokenId> ids) const;
  // The token whose bytes are exactly these; of several, a special one first, byte tokens last, then
  // the lowest id.
  std::optional<TokenId> find_token(std::string_view bytes) const;

  int64_t vocabulary_size() const { return static_cast<int64_t>(flags_.size()); }
  std::optional<TokenId> bos() const { return bos_; }
  std::optional<TokenId> eos() const { return eos_; }
  std::optional<TokenId> eot() const { return eot_; }  // end of a chat turn, if told apart from eos
  std::optional<TokenId> pad() const { return pad_; }
  bool adds_bos() const { return bos_ && !prefix_.empty() && prefix_.front() == *bos_; }
  bool adds_eos() const { return eos_ && !suffix_.empty() && suffix_.back() == *eos_; }
  // Control and unknown tokens: never part of the text that a user sees.
  bool is_control(TokenId id) const { return flags(id) & kControlFlag; }
  // A generation ends here: eos, eot, and the end tokens that chat models are known to use.
  bool is_end_of_generation(TokenId id) const { return flags(id) & kEndFlag; }

 private:
  static constexpr uint8_t kControlFlag = 1;
  static constexpr uint8_t kEndFlag = 2;
  class Encoding;
  using Model = std::variant<MergeTable, ScoredMerges>;

  explicit Tokenizer(Model model) : model_(std::move(model)) {}
  void store_tokens(const Vocabulary& vocabulary, const TokenTextRules& rules);
  void store_added_tokens(const Vocabulary& vocabulary);
  void mark_ends(const Vocabulary& vocabulary);
  uint8_t flags(TokenId id) const;

  Model model_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  AddedTokens added_;             // control, unknown and user-defined tokens, looked for in the text
  AddedTokens normalized_added_;  // those looked for in the normalised text
  std::string bytes_;             // all tokens' bytes, back to back
  std::vector<size_t> offsets_;   // vocabulary_size + 1 places in bytes_
  std::vector<uint8_t> flags_;
  std::unordered_map<std::string_view, TokenId> by_bytes_;  // views into bytes_
  // Where a word of the vocabulary goes before merges: normal tokens by text. Views into texts_.
  std::unordered_map<std::string_view, TokenId> whole_words_;
  std::string texts_;
  std::vector<TokenId> prefix_, suffix_;
  std::optional<TokenId> bos_, eos_, eot_, pad_;
  LeadingSpace leading_space_ = LeadingSpace::kKeep;
};

}  // namespace crible
