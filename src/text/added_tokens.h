// The tokens that stand in text literally and are found before anything else is done with it: the
// leftmost, and of those that start there the longest. Cost: the text's bytes times the longest
// token's, whatever the text. Immutable once built, safe to share between threads.
#pragma once

#include <string_view>
#include <unordered_map>

#include "text/token_trie.h"
#include "text/vocabulary.h"

namespace crible {

class AddedTokens {
 public:
  // text: what to look for, not empty. control: found only when special tokens are parsed.
  // traits.id is the token.
  void add(std::string_view text, bool control, const AddedToken& traits);

  bool empty() const { return all_.empty(); }

  struct Match {
    size_t begin = 0;  // with the white space that the token takes
    size_t end = 0;    // equal to begin: no match
    TokenId token = -1;
  };
  // The first match at or after `from`, taking no white space before `from`.
  Match find(std::string_view text, size_t from, bool parse_special) const;

 private:
  TokenTrie all_;
  TokenTrie plain_;                                 // without control tokens
  std::unordered_map<TokenId, AddedToken> traits_;  // of those that have any
};

}  // namespace crible
