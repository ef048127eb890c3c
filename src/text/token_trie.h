// Finds tokens that stand in text literally (control and user-defined ones) before any BPE: the
// leftmost match, and of those that start there the longest. A step looks at one byte, so a text of
// n bytes costs at most n times the longest token's length. Immutable once built, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace crible {

class TokenTrie {
 public:
  TokenTrie();

  // text must not be empty. Of two equal texts the first added stays.
  void add(std::string_view text, TokenId token);
  bool empty() const { return nodes_.empty(); }

  struct Match {
    size_t begin = 0;
    size_t length = 0;  // 0: no match
    TokenId token = -1;
  };
  // The first match at or after `from`.
  Match find(std::string_view text, size_t from) const;

 private:
  static constexpr int32_t kNone = -1;
  // Children of one node form a list through next_sibling; the root has a table instead, since
  // nearly every byte of a text is looked up there and nowhere else.
  struct Node {
    uint8_t byte;
    TokenId token;
    int32_t first_child;
    int32_t next_sibling;
  };
  int32_t child(int32_t node, uint8_t byte) const;

  std::array<int32_t, 256> root_;
  std::vector<Node> nodes_;
};

}  // namespace crible
