#include "text/token_trie.h"

#include "base/check.h"

namespace crible {

TokenTrie::TokenTrie() {
  root_.fill(kNone);
}

int32_t TokenTrie::child(int32_t node, uint8_t byte) const {
  int32_t at = nodes_[node].first_child;
  while (at != kNone && nodes_[at].byte != byte) at = nodes_[at].next_sibling;
  return at;
}

void TokenTrie::add(std::string_view text, TokenId token) {
  CHECK(!text.empty());
  int32_t at = kNone;
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    int32_t next = i == 0 ? root_[byte] : child(at, byte);
    if (next == kNone) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({byte, kNone, kNone, kNone});
      if (i == 0) {
        root_[byte] = next;
      } else {
        nodes_[next].next_sibling = nodes_[at].first_child;
        nodes_[at].first_child = next;
      }
    }
    at = next;
  }
  if (nodes_[at].token == kNone) nodes_[at].token = token;
}

TokenTrie::Match TokenTrie::find(std::string_view text, size_t from) const {
  if (nodes_.empty()) return {};
  for (size_t begin = from; begin < text.size(); ++begin) {
    int32_t at = root_[static_cast<uint8_t>(text[begin])];
    Match best;
    for (size_t i = begin; at != kNone;) {
      ++i;
      if (nodes_[at].token != kNone) best = {begin, i - begin, nodes_[at].token};
      if (i == text.size()) break;
      at = child(at, static_cast<uint8_t>(text[i]));
    }
    if (best.length > 0) return best;
  }
  return {};
}

}  // namespace crible
