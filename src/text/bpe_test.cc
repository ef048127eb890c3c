#include "text/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "text/byte_alphabet.h"

namespace crible {
namespace {

struct Fixture {
  Vocabulary vocabulary;
  std::unordered_map<std::string_view, TokenId> ids;

  Result<MergeTable> table() {
    ids.clear();
    for (size_t i = 0; i < vocabulary.texts.size(); ++i) ids[vocabulary.texts[i]] = static_cast<TokenId>(i);
    return MergeTable::make(vocabulary, ids);
  }
};

// A random vocabulary over a few letters in which every merge makes a known token.
Fixture random_fixture(std::mt19937& random, std::string_view letters, size_t merges) {
  Fixture fixture;
  fixture.vocabulary.source = "random";
  for (const char letter : letters) fixture.vocabulary.texts.emplace_back(1, letter);
  std::set<std::pair<std::string, std::string>> seen;
  auto& texts = fixture.vocabulary.texts;
  while (fixture.vocabulary.merges.size() < merges) {
    const std::string left = texts[random() % texts.size()];
    const std::string right = texts[random() % texts.size()];
    if (left.size() + right.size() > 12 || !seen.insert({left, right}).second) continue;
    fixture.vocabulary.merges.emplace_back(left, right);
    if (std::ranges::find(texts, left + right) == texts.end()) texts.push_back(left + right);
  }
  return fixture;
}

// The definition of BPE, literally: look at all pairs, merge the best, begin again.
std::vector<TokenId> encode_by_definition(Fixture& fixture, std::string_view word) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < fixture.vocabulary.merges.size(); ++i)
    ranks.emplace(fixture.vocabulary.merges[i], i);
  std::vector<std::string> symbols;
  for (const char c : word) symbols.emplace_back(1, c);
  for (;;) {
    size_t best = SIZE_MAX;
    size_t place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        place = i;
      }
    }
    if (best == SIZE_MAX) break;
    symbols[place] += symbols[place + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
  std::vector<TokenId> tokens;
  for (const std::string& symbol : symbols) {
    if (const auto found = fixture.ids.find(symbol); found != fixture.ids.end())
      tokens.push_back(found->second);
  }
  return tokens;
}

TEST(Bpe, EqualsDefinitionOnRandomVocabularies) {
  std::mt19937 random(21);
  for (int round = 0; round < 60; ++round) {
    Fixture fixture = random_fixture(random, "abcd", 1 + random() % 60);
    const auto table = fixture.table();
    ASSERT_TRUE(table) << table.error().message;
    // One session with memory for all words of the round: repeats must give the same again.
    std::vector<std::string> words;
    for (int i = 0; i < 60; ++i) {
      std::string word;
      // 'x' has no token: it is left out and no pair reaches over it.
      for (size_t size = 1 + random() % (i % 2 ? 12 : 150); word.size() < size;)
        word += "aabbccddx"[random() % 9];
      words.push_back(std::move(word));
    }
    std::vector<TokenId> tokens;
    std::vector<TokenId> expected;
    BpeSession session(*table, 1 << 20, tokens);
    for (int i = 0; i < 200; ++i) {
      const std::string& word = words[random() % words.size()];
      session.encode(word);
      const auto more = encode_by_definition(fixture, word);
      expected.insert(expected.end(), more.begin(), more.end());
      ASSERT_EQ(tokens, expected) << word;
    }
  }
}

TEST(Bpe, WorkGrowsWithLengthAndNotWithItsSquare) {
  std::mt19937 random(22);
  const auto steps = [](const MergeTable& table, const std::string& word) {
    std::vector<TokenId> tokens;
    BpeSession session(table, word.size(), tokens);
    session.encode(word);
    return session.steps();
  };
  for (int round = 0; round < 20; ++round) {
    Fixture fixture = random_fixture(random, "ab", 40);
    // Runs of one letter that double at each merge: the most merges that a word can have.
    for (const std::string& run : {std::string("aaaa"), std::string("aaaaaaaa")}) {
      auto& texts = fixture.vocabulary.texts;
      if (std::ranges::find(texts, run) == texts.end()) texts.push_back(run);
    }
    const auto table = fixture.table();
    ASSERT_TRUE(table);
    std::string unit;
    for (int i = 0; i < 100; ++i) unit += "ab"[random() % (1 + round % 2)];
    std::string word;
    while (word.size() < 200000) word += unit;
    const uint64_t whole = steps(*table, word);
    const uint64_t half = steps(*table, word.substr(0, word.size() / 2));
    // Each byte is looked up once; each merge (fewer than bytes) is one pop, at most two look-ups,
    // two entries pushed and, later, two pops.
    EXPECT_LE(whole, word.size() * 8);
    EXPECT_LE(whole, half * 2 + 64);
  }
}

TEST(Bpe, RefusesMergesOutsideTheVocabulary) {
  Fixture fixture;
  fixture.vocabulary.source = "file.gguf";
  fixture.vocabulary.texts = {"a", "b", "ab"};
  for (const auto& merge :
       std::vector<std::pair<std::string, std::string>>{{"a", "c"}, {"c", "a"}, {"b", "a"}}) {
    fixture.vocabulary.merges = {{"a", "b"}, merge};
    const auto table = fixture.table();
    ASSERT_FALSE(table);
    EXPECT_EQ(table.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(table.error().message.find("merge 1"), std::string::npos) << table.error().message;
  }
}

TEST(Bpe, APairListedTwiceKeepsItsBetterRank) {
  Fixture fixture;
  fixture.vocabulary.texts = {"a", "b", "c", "ab", "bc"};
  fixture.vocabulary.merges = {{"a", "b"}, {"b", "c"}, {"a", "b"}};
  const auto table = fixture.table();
  ASSERT_TRUE(table);
  EXPECT_EQ(table->find(0, 1).rank, 0u);
  std::vector<TokenId> tokens;
  BpeSession session(*table, 3, tokens);
  session.encode("abc");
  EXPECT_EQ(tokens, (std::vector<TokenId>{3, 2}));
}

}  // namespace
}  // namespace crible
