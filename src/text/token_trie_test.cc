#include "text/token_trie.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace crible {
namespace {

TokenTrie::Match find_by_trying_all(const std::vector<std::string>& tokens, std::string_view text,
                                    size_t from) {
  for (size_t begin = from; begin < text.size(); ++begin) {
    TokenTrie::Match best;
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].size() > best.length && text.substr(begin).starts_with(tokens[i])) {
        best = {begin, tokens[i].size(), static_cast<TokenId>(i)};
      }
    }
    if (best.length > 0) return best;
  }
  return {};
}

TEST(TokenTrie, FindsTheLeftmostLongest) {
  std::mt19937 random(11);
  const auto word = [&](size_t longest) {
    std::string s;
    for (size_t size = 1 + random() % longest; s.size() < size;) s.push_back("ab\xFF"[random() % 3]);
    return s;
  };
  for (int round = 0; round < 300; ++round) {
    TokenTrie trie;
    std::vector<std::string> tokens;
    for (size_t i = random() % 8; i > 0; --i) {
      tokens.push_back(word(6));
      trie.add(tokens.back(), static_cast<TokenId>(tokens.size() - 1));
    }
    for (int i = 0; i < 30; ++i) {
      const std::string text = word(20);
      const size_t from = random() % (text.size() + 1);
      const auto expected = find_by_trying_all(tokens, text, from);
      const auto found = trie.find(text, from);
      ASSERT_EQ(found.length, expected.length);
      ASSERT_EQ(found.begin, expected.begin);
      ASSERT_EQ(found.token, expected.token);
    }
  }
}

TEST(TokenTrie, EmptyTrieAndEmptyText) {
  TokenTrie trie;
  EXPECT_EQ(trie.find("anything", 0).length, 0u);
  trie.add("x", 3);
  EXPECT_EQ(trie.find("", 0).length, 0u);
  EXPECT_EQ(trie.find("x", 1).length, 0u);
}

}  // namespace
}  // namespace crible
