// Byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2): within one word, the adjacent pair
// with the best rank merges first, leftmost on a tie, until no pair has a rank. Cost is n log n in
// the word's bytes whatever the text. Knows nothing of word splitting or special tokens.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "text/vocabulary.h"

namespace crible {

// The merge rules, compiled. Immutable after make, safe to share between threads.
class MergeTable {
 public:
  // ids: every token's text and id. kCorrupt when a merge names or makes a token that is not there.
  static Result<MergeTable> make(const Vocabulary& vocabulary,
                                 const std::unordered_map<std::string_view, TokenId>& ids);

  static constexpr uint32_t kNoRank = UINT32_MAX;
  static constexpr TokenId kNoToken = -1;

  struct Merge {
    uint32_t rank = kNoRank;  // lower merges first
    TokenId token = kNoToken;
  };
  Merge find(TokenId left, TokenId right) const;
  // kNoToken for a byte that the vocabulary lacks: such a byte cannot be expressed and is left out.
  TokenId byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

 private:
  struct Slot {
    uint64_t pair;  // left << 32 | right
    uint32_t rank;
    TokenId token;
  };
  size_t home_slot(uint64_t pair) const;

  std::array<TokenId, 256> byte_tokens_;
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
  uint64_t steps() const { return steps_; }

 private:
  struct Remembered {
    const char* data = nullptr;
    uint32_t size = 0;
    uint32_t token_count = 0;
    size_t first_token = 0;  // place in out_
  };
  struct Symbol {
    TokenId token;
    uint32_t previous;
    uint32_t next;
    uint32_t rank;  // of the pair (this, next); kNoRank when it does not merge or has ended
  };

  void merge_short(std::string_view word);
  void merge_long(std::string_view word);
  void rank_pair(uint32_t left);
  MergeTable::Merge look_up(TokenId left, TokenId right);

  const MergeTable& merges_;
  std::vector<TokenId>& out_;
  std::vector<Remembered> remembered_;  // direct-mapped; empty for short texts
  std::vector<Symbol> symbols_;         // linked list over the long word under work
  std::vector<uint64_t> queue_;         // min-heap of rank << 32 | position
  uint64_t steps_ = 0;
};

}  // namespace crible
