#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace crible {
namespace {

struct Outcome {
  std::string text;
  int matched = -1;
  bool operator==(const Outcome&) const = default;
};

Outcome whole_text_outcome(const std::vector<std::string>& stops, const std::string& text,
                           bool include_stop) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string_view head = std::string_view(text).substr(0, end);
    int best = -1;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (head.ends_with(stops[i]) &&
          (best < 0 || stops[i].size() > stops[static_cast<size_t>(best)].size())) {
        best = static_cast<int>(i);
      }
    }
    if (best >= 0) {
      return {text.substr(0, include_stop ? end : end - stops[static_cast<size_t>(best)].size()), best};
    }
  }
  return {text, -1};
}

std::string random_text(std::mt19937& random, size_t size, const char* letters, size_t letter_count) {
  std::string text;
  while (text.size() < size) text.push_back(letters[random() % letter_count]);
  return text;
}

TEST(StopStrings, HoweverTheTextIsCutTheResultIsThatOfTheWhole) {
  std::mt19937 random(31);
  size_t with_match = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = random() % 5; i > 0; --i)
      stops.push_back(random_text(random, 1 + random() % 6, "ab\n", 3));
    const std::string text = random_text(random, random() % 40, "aab\n", 4);
    const bool include_stop = random() % 2;
    auto matcher = StopStringMatcher::make(stops, include_stop);
    ASSERT_TRUE(matcher);
    Outcome outcome;
    bool stopped = false;
    for (size_t at = 0; at < text.size();) {
      const size_t size = std::min<size_t>(random() % 5, text.size() - at);
      stopped = matcher->push(std::string_view(text).substr(at, size), outcome.text);
      at += size;
      ASSERT_EQ(stopped, matcher->stopped());
    }
    matcher->flush(outcome.text);
    outcome.matched = matcher->matched();
    ASSERT_EQ(outcome, whole_text_outcome(stops, text, include_stop)) << text;
    with_match += stopped;
  }
  EXPECT_GT(with_match, 2000u);
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeAStopString) {
  auto matcher = StopStringMatcher::make({"</s>", "\n\nUser:"}, false);
  ASSERT_TRUE(matcher);
  std::string out;
  EXPECT_FALSE(matcher->push("Hello\n", out));
  EXPECT_EQ(out, "Hello");
  EXPECT_FALSE(matcher->push("\nUsed <", out));
  EXPECT_EQ(out, "Hello\n\nUsed ");
  EXPECT_FALSE(matcher->push("", out));
  EXPECT_EQ(out, "Hello\n\nUsed ");
  EXPECT_FALSE(matcher->push("/", out));
  EXPECT_TRUE(matcher->push("s>tail", out));
  EXPECT_EQ(out, "Hello\n\nUsed ");
  EXPECT_EQ(matcher->matched(), 0);
  EXPECT_TRUE(matcher->push("more", out));
  matcher->flush(out);
  EXPECT_EQ(out, "Hello\n\nUsed ");
}

TEST(StopStrings, RefusesAnEmptyStopString) {
  const auto matcher = StopStringMatcher::make({"a", ""}, false);
  ASSERT_FALSE(matcher);
  EXPECT_EQ(matcher.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace crible
