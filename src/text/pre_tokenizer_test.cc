#include "text/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "text/splitting_rules.h"

namespace crible {
namespace {

using testing::ElementsAre;

std::vector<std::string_view> split(std::string_view rule, std::string_view text) {
  const auto pre_tokenizer = PreTokenizer::make(rule);
  EXPECT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
  WordList list;
  if (pre_tokenizer) pre_tokenizer->split(text, true, list);
  return list.words;
}

TEST(PreTokenizer, Gpt2) {
  EXPECT_THAT(split("gpt-2", "We've  got 123 items!!\n\n  x"),
              ElementsAre("We", "'ve", " ", " got", " 123", " items", "!!", "\n\n ", " x"));
  EXPECT_THAT(split("gpt-2", "I'LL  "), ElementsAre("I", "'", "LL", "  "));
  EXPECT_THAT(split("gpt-2", "\tnaïve 北京\u00A0!"), ElementsAre("\t", "naïve", " 北京", "\u00A0", "!"));
}

TEST(PreTokenizer, SmolLmTakesEachDigitApart) {
  EXPECT_THAT(split("smollm", "in 2024  7x"), ElementsAre("in", " ", "2", "0", "2", "4", "  ", "7", "x"));
  EXPECT_THAT(split("smollm", "½Ⅳ"), ElementsAre("½", "Ⅳ"));
}

TEST(PreTokenizer, Llama3) {
  EXPECT_THAT(split("llama-bpe", "It'S 12345 (ok)\r\n\n  end"),
              ElementsAre("It", "'S", " ", "123", "45", " (", "ok", ")\r\n\n", " ", " end"));
  EXPECT_THAT(split("llama-bpe", "a \n \n  b"), ElementsAre("a", " \n \n", " ", " b"));
}

TEST(PreTokenizer, Qwen2AndItsDigits) {
  EXPECT_THAT(split("qwen2", "x=12_y"), ElementsAre("x", "=", "1", "2", "_y"));
  EXPECT_THAT(split("qwen2", "हिन्दी"), ElementsAre("ह", "िन", "्द", "ी"));
  EXPECT_THAT(split("qwen35", "हिन्दी"), ElementsAre("हिन्दी"));
}

TEST(PreTokenizer, CaseAwareRules) {
  EXPECT_THAT(split("gpt-4o", "camelCase HTTPServer's ÉtéNOIR"),
              ElementsAre("camel", "Case", " HTTPServer's", " Été", "NOIR"));
  EXPECT_THAT(split("tekken", "camelCase 12 a/b//\n"),
              ElementsAre("camel", "Case", " ", "1", "2", " a", "/b", "//\n"));
}

TEST(PreTokenizer, RulesOfSeveralPatterns) {
  EXPECT_THAT(split("default", "a==b 1234"), ElementsAre("a", "==", "b", " ", "123", "4"));
  EXPECT_THAT(split("deepseek-v3", "foo.bar 1234 漢字かな!x"),
              ElementsAre("foo", ".bar", " ", "123", "4", " ", "漢字かな", "!x"));
}

TEST(PreTokenizer, CharactersThatUnicode15Added) {
  // U+31350 is a letter, U+1E4F0 a number: both unassigned in Unicode 14.
  EXPECT_THAT(split("gpt-2", "a\U00031350!"), ElementsAre("a\U00031350", "!"));
  EXPECT_THAT(split("smollm", "a\U0001E4F0\U0001E4F0"), ElementsAre("a", "\U0001E4F0", "\U0001E4F0"));
  // U+180E once was white space and is no more.
  EXPECT_THAT(split("gpt-2", "a\u180E\u180Eb"), ElementsAre("a", "\u180E\u180E", "b"));
}

TEST(PreTokenizer, WordsOfEveryRuleAreTheTextAgain) {
  constexpr std::string_view kPieces[] = {
      "a",   "Z", " ", "  ", "\t",     "\n",     "\r\n",   "1",          "23",         "'",  "'s",
      "'LL", "é", "Ǆ", "ǅ",  "ǆ",      "北",     "かな",   "ิ",           "٣",          "½",  "!",
      "/",   "€", "—", "😀",  "\u00A0", "\u0085", "\u3000", "\U00031350", "\U0010FFFF", "\0", "\uFFFD"};
  std::mt19937 random(41);
  for (const std::string_view rule : splitting_rule_names()) {
    const auto pre_tokenizer = PreTokenizer::make(rule);
    ASSERT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
    WordList list;
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (size_t n = random() % 25; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
      list.words.clear();
      pre_tokenizer->split(text, true, list);
      std::string joined;
      for (const std::string_view word : list.words) {
        ASSERT_FALSE(word.empty());
        joined += word;
      }
      ASSERT_EQ(joined, text) << rule;
    }
  }
}

TEST(PreTokenizer, RunsOfAMillionBytesAreSplitAsShortOnesAre) {
  const size_t n = 1 << 20;
  for (const std::string_view rule : {"gpt-2", "llama-bpe", "qwen2", "gpt-4o", "tekken", "deepseek-v3"}) {
    const std::string spaces = std::string(n, ' ') + "x";
    EXPECT_THAT(split(rule, spaces),
                ElementsAre(std::string_view(spaces).substr(0, n - 1), std::string_view(" x")))
        << rule;
    const std::string breaks = std::string(n, ' ') + "\n" + std::string(n, '\n') + "x";
    EXPECT_EQ(split(rule, breaks).back(), "x") << rule;
    for (const std::string_view letter : {"A", "a", "é", "ซ"}) {
      std::string run;
      for (size_t i = 0; i < n; ++i) run += letter;
      run += "!";
      const auto words = split(rule, run);
      ASSERT_EQ(words.size(), 2u) << rule << " " << letter;
      EXPECT_EQ(words[1], "!");
    }
  }
}

TEST(PreTokenizer, AMatchThatRunsIntoTheLimitLosesNothing) {
  const auto pre_tokenizer = PreTokenizer::make("qwen2", {.match_steps = 1});
  ASSERT_TRUE(pre_tokenizer);
  const std::string text = "one two   three " + std::string(5000, ' ') + "\t four";
  WordList list;
  pre_tokenizer->split(text, true, list);
  std::string joined;
  for (const std::string_view word : list.words) joined += word;
  EXPECT_EQ(joined, text);
  EXPECT_LT(list.words.size(), split("qwen2", text).size());
}

TEST(PreTokenizer, AnUnknownRuleIsAnErrorThatNamesTheKnown) {
  const auto pre_tokenizer = PreTokenizer::make("no-such-rule");
  ASSERT_FALSE(pre_tokenizer);
  EXPECT_EQ(pre_tokenizer.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(pre_tokenizer.error().message.find("\"no-such-rule\""), std::string::npos);
  EXPECT_NE(pre_tokenizer.error().message.find("llama-bpe"), std::string::npos);
}

}  // namespace
}  // namespace crible
