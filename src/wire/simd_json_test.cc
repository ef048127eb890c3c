#include "wire/simd_json.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace crible {
namespace {

using Json = nlohmann::ordered_json;

class Texts {
 public:
  // A random document as text, with the spellings that JSON allows.
  std::string value(int depth) {
    switch (draw(depth > 0 ? 9 : 7)) {
      case 0: return "null";
      case 1: return draw(2) == 0 ? "true" : "false";
      case 2: return std::to_string(draw(200'000));
      case 3: return number();
      case 4: return std::to_string(static_cast<int64_t>(random_()));
      case 5: return std::to_string(random_());
      case 6: return string();
      case 7: return list('[', ']', depth, /*named=*/false);
      default: return list('{', '}', depth, /*named=*/true);
    }
  }
  // One byte of a text changed, removed or doubled.
  std::string damaged(std::string text) {
    const size_t at = random_() % text.size();
    constexpr std::string_view kBytes = "[]{},:\"\\0-+.eEtnu \x01\x7F\xC3\xFF";
    switch (draw(3)) {
      case 0: text[at] = kBytes[random_() % kBytes.size()]; break;
      case 1: text.erase(at, 1); break;
      default: text.insert(at, 1, text[at]);
    }
    return text;
  }

 private:
  int64_t draw(int64_t below) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(below)); }
  std::string number() {
    constexpr const char* kSpecial[] = {"-0", "0", "-0.0", "1e5", "1E-7", "0.1", "9223372036854775807",
                                        "-9223372036854775808", "18446744073709551615", "5e-324",
                                        "1.7976931348623157e308", "2.2250738585072011e-308", "123456789.125"};
    if (draw(2) == 0) return kSpecial[static_cast<size_t>(draw(std::size(kSpecial)))];
    // Any finite double, in 17 digits.
    while (true) {
      const uint64_t bits = random_();
      double value;
      std::memcpy(&value, &bits, sizeof value);
      if (!std::isfinite(value)) continue;
      char text[40];
      std::snprintf(text, sizeof text, "%.17g", value);
      return text;
    }
  }
  std::string string() {
    constexpr const char* kParts[] = {"a", "Zürich", "\\n", "\\\"", "\\u00e9", "\\ud83d\\ude00", "\\u0000", "日本", "/", "\\/",
                                      "0123456789012345678901234567890123456789"};
    std::string text = "\"";
    for (int64_t i = draw(5); i > 0; --i) text += kParts[static_cast<size_t>(draw(std::size(kParts)))];
    return text + "\"";
  }
  std::string list(char open, char close, int depth, bool named) {
    std::string text(1, open);
    for (int64_t i = 0, count = draw(6); i < count; ++i) {
      if (i > 0) text += draw(2) == 0 ? "," : " ,\n";
      // Names repeat.
      if (named) text += "\"k" + std::to_string(draw(4)) + "\": ";
      text += value(depth - 1);
    }
    return text + close;
  }

  std::mt19937_64 random_{7};
};

TEST(SimdJson, GivesWhatTheDocumentsOwnParserGives) {
  Texts texts;
  int64_t read = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = texts.value(4);
    const auto quick = parse_with_simd(text);
    const Json expected = Json::parse(text);
    ASSERT_TRUE(quick.has_value()) << text;
    ASSERT_EQ(*quick, expected) << text;
    ASSERT_EQ(quick->dump(), expected.dump()) << text;  // types and order too
    ++read;
  }
  EXPECT_EQ(read, 20'000);
}

// Whatever it reads, the other reads alike; what it leaves is the other's to refuse.
TEST(SimdJson, TakesNothingThatTheDocumentsOwnParserRefuses) {
  Texts texts;
  int64_t left = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::string text = texts.damaged(texts.value(3));
    const Json expected = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto quick = parse_with_simd(text);
    left += !quick;
    if (quick) {
      ASSERT_FALSE(expected.is_discarded()) << text;
      ASSERT_EQ(quick->dump(), expected.dump()) << text;
    }
  }
  EXPECT_GT(left, 10'000);
}

TEST(SimdJson, LeavesNumbersBeyondItsTypes) {
  for (const char* text : {"18446744073709551616", "-9223372036854775809", "1e999", "\"\\ud800\"", "\"\xC3\"", "", "[1", "1 2"}) {
    EXPECT_FALSE(parse_with_simd(text)) << text;
  }
}

}  // namespace
}  // namespace crible
