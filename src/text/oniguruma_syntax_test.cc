#include "text/oniguruma_syntax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/text_pattern.h"

namespace crible {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const auto translated = pcre2_from_oniguruma(pattern);
  EXPECT_TRUE(translated) << translated.error().message;
  if (!translated) return {};
  const auto compiled = TextPattern::compile(*translated, 1'000'000);
  EXPECT_TRUE(compiled) << compiled.error().message;
  std::vector<std::string> found;
  if (!compiled) return found;
  PatternScanner scanner;
  for (size_t at = 0; at < text.size();) {
    const auto match = scanner.next(*compiled, text, at);
    if (match.end > match.begin) found.emplace_back(text.substr(match.begin, match.end - match.begin));
    at = match.end;
  }
  return found;
}

Error error_of(std::string_view pattern) {
  const auto translated = pcre2_from_oniguruma(pattern);
  EXPECT_FALSE(translated) << pattern << " became " << *translated;
  return translated ? Error{} : translated.error();
}

TEST(OnigurumaSyntax, ShorthandsMeanUnicode) {
  EXPECT_THAT(matches(R"(\s+)", "a\u00A0\u3000b\u0085c\u180Ed"), ElementsAre("\u00A0\u3000", "\u0085"));
  EXPECT_THAT(matches(R"(\d+)", "1٣४x½"), ElementsAre("1٣४"));
  EXPECT_THAT(matches(R"(\w+)", "né_1 日本-ж"), ElementsAre("né_1", "日本", "ж"));
  EXPECT_THAT(matches(R"(\h+)", "xAf09g"), ElementsAre("Af09"));
  EXPECT_THAT(matches(R"(\p{^L}+|\P{N})", "a1-b"), ElementsAre("a", "1-", "b"));
}

TEST(OnigurumaSyntax, ClassesWithComplements) {
  EXPECT_THAT(matches(R"([^\S\n]+)", "a \t\nb c"), ElementsAre(" \t", " "));
  EXPECT_THAT(matches(R"([a\S]+)", "ab c"), ElementsAre("ab", "c"));
  EXPECT_THAT(matches(R"([\n\P{L}]+)", "ab12\ncd"), ElementsAre("12\n"));
  EXPECT_THAT(matches(R"([\W\d]+)", "a1-b"), ElementsAre("1-"));
  EXPECT_THAT(matches(R"([^\W\d]+)", "a1-b"), ElementsAre("a", "b"));
  EXPECT_THAT(matches(R"([a\-^.\]]+)", "x-a^].y"), ElementsAre("-a^]."));
}

TEST(OnigurumaSyntax, RepetitionsAsRubyReadsThem) {
  // Braces and a plus: any number of times one to three, so seven digits are one match.
  EXPECT_THAT(matches(R"(\p{N}{1,3}+)", "1234567"), ElementsAre("1234567"));
  EXPECT_THAT(matches(R"(\p{N}{1,3})", "1234567"), ElementsAre("123", "456", "7"));
  EXPECT_THAT(matches("a++b|a", "aaab aa"), ElementsAre("aaab", "a", "a"));
  EXPECT_THAT(matches("a{2}?b", "aab b"), ElementsAre("aab", "b"));
  EXPECT_THAT(matches("a{1,3}?", "aaa"), ElementsAre("a", "a", "a"));
  EXPECT_THAT(matches("xa{,2}", "xaaa"), ElementsAre("xaa"));
  EXPECT_THAT(matches("a{x}", "a{x}"), ElementsAre("a{x}"));
  EXPECT_THAT(matches("(?:ab){2}*", "ababababab"), ElementsAre("abababab"));
}

TEST(OnigurumaSyntax, GroupsAndAnchors) {
  EXPECT_THAT(matches("(?i:'s|'ll)", "'S 'lL 's 'x"), ElementsAre("'S", "'lL", "'s"));
  EXPECT_THAT(matches("(?i)ab", "AB aB"), ElementsAre("AB", "aB"));
  EXPECT_THAT(matches("(?m:a.b)|c.d", "a\nb c\nd"), ElementsAre("a\nb"));
  EXPECT_THAT(matches(R"(\s+(?!\S)|\s)", "a  b"), ElementsAre(" ", " "));
  EXPECT_THAT(matches("(?<=a)b|(?<!a)c", "ab ac c"), ElementsAre("b", "c"));
  EXPECT_THAT(matches("x$", "x\nx y"), ElementsAre("x"));
  EXPECT_THAT(matches(R"(\bword\b)", "word sword word_ éword"), ElementsAre("word"));
}

TEST(OnigurumaSyntax, WhatIsNotSureIsNamed) {
  EXPECT_THAT(error_of("[a[b]]").message, HasSubstr("a class within a class"));
  EXPECT_THAT(error_of("[a&&b]").message, HasSubstr("intersection"));
  EXPECT_THAT(error_of("a(?i)b").message, HasSubstr("not at the beginning"));
  for (const char* pattern :
       {"(?<n>a)", "(a)\\1", "\\k<n>", "\\R", "\\X", "\\p{Han=x}", "\\pL", "(?#c)", "[]a]"}) {
    EXPECT_EQ(error_of(pattern).code, ErrorCode::kUnsupported) << pattern;
  }
  for (const char* pattern : {"(", "a)", "[a", "*a", "a|+", "\\", "\\x{zz}", "\xFF", "(?:*)"}) {
    EXPECT_EQ(error_of(pattern).code, ErrorCode::kCorrupt) << pattern;
  }
}

TEST(TextPattern, AQuotedTextMatchesItself) {
  const std::string text = R"(a.b*c[d]{2}\E^$|()+?-# /)" + std::string(1, '\0') + "é";
  const auto pattern = TextPattern::compile(quote_pattern(text), 1000);
  ASSERT_TRUE(pattern) << pattern.error().message;
  PatternScanner scanner;
  const auto match = scanner.next(*pattern, "x" + text, 0);
  EXPECT_EQ(match.begin, 1u);
  EXPECT_EQ(match.end, text.size() + 1);
}

}  // namespace
}  // namespace crible
