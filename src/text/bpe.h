// Byte-pair encoding by ranked merges (Sennrich et al. 2016), over bytes (GPT-2) or over characters
// with bytes to fall back on. Within one word, the adjacent pair with the best rank merges first,
// leftmost on a tie. Cost is n log n in the word's bytes whatever the text. Knows nothing of word
// splitting or special tokens.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "text/merge_queue.h"
#include "text/vocabulary.h"

namespace crible {

// The merge rules and the tokens of single characters or bytes, compiled. Immutable after make,
// safe to share between threads.
class MergeTable {
 public:
  // ids: every token's text and id. kCorrupt when a merge names or makes a token that is not there.
  static Result<MergeTable> make(const Vocabulary& vocabulary,
                                 const std::unordered_map<std::string_view, TokenId>& ids);

  Merge find(TokenId left, TokenId right) const;
  // The symbols that merging begins with: at most one for each byte of word, which is valid UTF-8
  // when merges begin with characters. kNoToken stands for what cannot be expressed and is left out.
  size_t start(std::string_view word, std::span<TokenId> symbols) const;

 private:
  struct Slot {
    uint64_t pair;  // left << 32 | right
    uint32_t rank;
    TokenId token;
  };
  class UnknownRun;

  void find_single_tokens(const Vocabulary& vocabulary,
                          const std::unordered_map<std::string_view, TokenId>& ids);
  size_t home_slot(uint64_t pair) const;
  TokenId character_token(std::string_view character) const;

  std::array<TokenId, 256> byte_tokens_;  // kNoToken for a byte that the vocabulary lacks
  std::array<TokenId, 128> ascii_tokens_;
  std::unordered_map<uint32_t, TokenId> character_tokens_;  // by the character's bytes as a number
  bool by_character_ = false;
  bool fuse_unknown_ = false;
  bool join_over_missing_ = false;
  TokenId unknown_ = kNoToken;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  int shift_ = 0;
};

// Encodes the words of one text into one token list. Remembers where in the list the latest short
// words went, so that a repeated word is copied and not merged again. One call, one thread.
class BpeSession {
 public:
  // out must outlive the session and only grow by it; the words passed to encode must stay valid.
  // expected_bytes: size of the text, to judge whether remembering words pays.
  BpeSession(const MergeTable& merges, size_t expected_bytes, std::vector<TokenId>& out);

  void encode(std::string_view word);

  // Work done: pair look-ups and queue entries. For tests of the cost's growth.
  uint64_t steps() const { return steps_ + queue_.steps(); }

 private:
  struct Remembered {
    const char* data = nullptr;
    uint32_t size = 0;
    uint32_t token_count = 0;
    size_t first_token = 0;  // place in out_
  };

  void merge_short(std::string_view word);
  void merge_long(std::string_view word);
  Merge look_up(TokenId left, TokenId right);

  const MergeTable& merges_;
  std::vector<TokenId>& out_;
  std::vector<Remembered> remembered_;  // direct-mapped; empty for short texts
  std::vector<TokenId> symbols_;        // of the long word under work, before merging
  MergeQueue queue_;
  uint64_t steps_ = 0;
};

}  // namespace crible
