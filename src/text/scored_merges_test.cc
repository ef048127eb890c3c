#include "text/scored_merges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "text/tokenizer.h"

namespace crible {
namespace {

using testing::ElementsAre;

// Letters, and runs of "a" that double: the deepest merging that a word can have.
Vocabulary doubling_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.source = "small.gguf";
  vocabulary.segmentation = Segmentation::kScoredMerges;
  const auto add = [&](const std::string& text, TokenKind kind, float score) {
    vocabulary.texts.push_back(text);
    vocabulary.kinds.push_back(kind);
    vocabulary.scores.push_back(score);
  };
  add("<unk>", TokenKind::kUnknown, 0);
  add("<s>", TokenKind::kControl, 0);
  add("</s>", TokenKind::kControl, 0);
  add("<0xC3>", TokenKind::kByte, 0);
  add("<0xA9>", TokenKind::kByte, 0);
  for (const char* letter : {"a", "b", "\u2581"}) add(letter, TokenKind::kNormal, -100);
  float score = -1;
  for (size_t length = 2; length <= 64; length *= 2)
    add(std::string(length, 'a'), TokenKind::kNormal, score--);
  add("ba", TokenKind::kNormal, -0.5f);
  add("\u2581a", TokenKind::kNormal, -200);
  vocabulary.unknown = 0;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  return vocabulary;
}

std::vector<TokenId> encode(const ScoredMerges& merges, std::string_view word) {
  MergeQueue queue;
  std::vector<TokenId> ids;
  merges.encode(word, queue, ids);
  return ids;
}

TEST(ScoredMerges, BestScoreFirstThenLeftmost) {
  const auto merges = ScoredMerges::make(doubling_vocabulary());
  EXPECT_THAT(encode(merges, "aaa"), ElementsAre(8, 5));   // aa a
  EXPECT_THAT(encode(merges, "baa"), ElementsAre(14, 5));  // ba a: a better score than aa
  EXPECT_THAT(encode(merges, "\u2581a"), ElementsAre(15));
  EXPECT_THAT(encode(merges, "\u2581aa"), ElementsAre(7, 8));
  EXPECT_THAT(encode(merges, ""), ElementsAre());
}

TEST(ScoredMerges, WhatIsNoTokenBecomesBytesOrUnknown) {
  const auto merges = ScoredMerges::make(doubling_vocabulary());
  EXPECT_THAT(encode(merges, "aéa"), ElementsAre(5, 3, 4, 5));
  EXPECT_THAT(encode(merges, "aèa"), ElementsAre(5, 0, 5));  // <0xA8> is not there
  EXPECT_THAT(encode(merges, "<s>"), ElementsAre(0, 0, 0));
}

TEST(ScoredMerges, WorkGrowsWithLengthAndNotWithItsSquare) {
  const auto merges = ScoredMerges::make(doubling_vocabulary());
  std::mt19937 random(31);
  const auto steps = [&](std::string_view word) {
    MergeQueue queue;
    std::vector<TokenId> ids;
    merges.encode(word, queue, ids);
    return queue.steps();
  };
  std::string mixed;
  while (mixed.size() < 1 << 20) mixed += random() % 9 ? 'a' : 'b';
  for (const std::string& word : {std::string(1 << 20, 'a'), mixed, std::string(1 << 20, 'c')}) {
    const uint64_t whole = steps(word);
    // Each character is looked up once; each merge (fewer than characters) is one pop, at most two
    // look-ups, two entries pushed and, later, two pops.
    EXPECT_LE(whole, word.size() * 8);
    EXPECT_LE(whole, steps(std::string_view(word).substr(0, word.size() / 2)) * 2 + word.size() / 100);
  }
}

TEST(ScoredMerges, TheTokenizerMarksSpacesAndPutsOneBefore) {
  Vocabulary vocabulary = doubling_vocabulary();
  vocabulary.add_space_prefix = true;
  vocabulary.byte_fallback = true;
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_THAT((*tokenizer)->encode("a b", {.add_special = true}), ElementsAre(1, 15, 7, 6));
  const TokenId ids[] = {1, 15, 7, 6};
  EXPECT_EQ((*tokenizer)->decode(ids, true), "a b");
  // One before each text between special tokens, as llama.cpp does.
  EXPECT_THAT((*tokenizer)->encode("a</s>a", {.parse_special = true}), ElementsAre(15, 2, 15));
  vocabulary.add_space_prefix = false;
  vocabulary.collapse_spaces = true;
  tokenizer = Tokenizer::from_vocabulary(vocabulary);
  ASSERT_TRUE(tokenizer);
  EXPECT_THAT((*tokenizer)->encode("  a   b "), ElementsAre(5, 7, 6));
  vocabulary.scores[3] = NAN;
  EXPECT_FALSE(Tokenizer::from_vocabulary(vocabulary));
  vocabulary.scores.pop_back();
  EXPECT_FALSE(Tokenizer::from_vocabulary(vocabulary));
}

}  // namespace
}  // namespace crible
