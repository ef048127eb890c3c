// SentencePiece's BPE as GGUF files of tokenizer.ggml.model "llama" carry it: any two neighbours
// whose texts together are a token may merge, the best score first, leftmost on a tie. What is no
// token in the end becomes its bytes' tokens. n log n in the word's bytes, whatever the text.
// Immutable after make, safe to share between threads.
#pragma once

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/units.h"
#include "text/merge_queue.h"
#include "text/vocabulary.h"

namespace crible {

class ScoredMerges {
 public:
  // The vocabulary was checked: as many scores as texts, none of them not a number.
  static ScoredMerges make(const Vocabulary& vocabulary);

  // word: valid UTF-8 with its spaces already marked. queue: scratch space of the caller.
  void encode(std::string_view word, MergeQueue& queue, std::vector<TokenId>& out) const;

 private:
  struct Piece {
    TokenId token;
    uint32_t rank;
  };
  const Piece* find(std::string_view text) const;

  std::vector<char> bytes_;                             // the texts of all pieces
  std::unordered_map<std::string_view, Piece> pieces_;  // views into bytes_
  size_t longest_piece_ = 0;                            // bytes
  std::array<TokenId, 256> byte_tokens_;
  TokenId unknown_ = kNoToken;
};

}  // namespace crible
