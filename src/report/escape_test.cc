#include "report/escape.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace crible::report {
namespace {

std::string random_bytes(std::mt19937_64& random, size_t length) {
  // Bytes that matter to the formats are frequent, any other is possible.
  static constexpr std::string_view kLikely = "<>&|`*_[]\\\"'~#\n\t \xc3\xa9\xe6\xbc\xa2";
  std::string bytes;
  while (bytes.size() < length) {
    bytes += random() % 3 != 0 ? kLikely[random() % kLikely.size()] : static_cast<char>(random() % 256);
  }
  return bytes;
}

TEST(Escape, ReplacesBrokenUtf8AndControls) {
  EXPECT_EQ(clean_text("a\xff"), "a\ufffd");
  EXPECT_EQ(clean_text("\xc0\xaf"), "\ufffd\ufffd") << "overlong";
  EXPECT_EQ(clean_text("\xed\xa0\x80"), "\ufffd\ufffd\ufffd") << "surrogate";
  EXPECT_EQ(clean_text("\xe6\xbc"), "\ufffd\ufffd") << "cut off";
  EXPECT_EQ(clean_text("é漢\U0001f600"), "é漢\U0001f600");
  EXPECT_EQ(clean_text("a\x01\r\n\tb"), "a\ufffd\n\tb");
}

TEST(Escape, CleaningIsIdempotent) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    const std::string clean = clean_text(random_bytes(random, random() % 40));
    EXPECT_EQ(clean_text(clean), clean);
  }
}

TEST(Escape, HtmlLeavesNoMarkup) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    const std::string escaped = escape_html(random_bytes(random, random() % 60));
    EXPECT_EQ(escaped.find_first_of("<>\"'"), std::string::npos);
  }
  EXPECT_EQ(escape_html("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
}

// A pipe counts as a cell's end unless a backslash stands before it (GitHub's table extension).
size_t open_pipes(std::string_view words) {
  size_t count = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == '\\') {
      ++i;
    } else if (words[i] == '|') {
      ++count;
    }
  }
  return count;
}

TEST(Escape, MarkdownStaysInItsCell) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = random_bytes(random, random() % 60);
    const std::string escaped = escape_markdown(bytes);
    EXPECT_EQ(open_pipes(escaped), 0u) << escaped;
    EXPECT_EQ(escaped.find('\n'), std::string::npos);
    EXPECT_EQ(escaped.find('<'), std::string::npos);
    EXPECT_EQ(markdown_code(bytes, true).find('\n'), std::string::npos);
  }
  EXPECT_EQ(escape_markdown("chunked_only_safe"), "chunked_only_safe");
  EXPECT_EQ(escape_markdown("_x_ *y* [z](u) <b> &amp; a|b"),
            "\\_x\\_ \\*y\\* \\[z\\](u) &lt;b> &amp;amp; a\\|b");
}

TEST(Escape, CodeSpansOutgrowTheirBackticks) {
  EXPECT_EQ(markdown_code("a|b", true), "`a\\|b`");
  EXPECT_EQ(markdown_code("a|b", false), "`a|b`");
  EXPECT_EQ(markdown_code("a`b``c", false), "```a`b``c```");
  EXPECT_EQ(markdown_code("`x`", false), "`` `x` ``");
  EXPECT_EQ(markdown_fence("a\n```\nb", "text"), "````text\na\n```\nb\n````\n");
}

TEST(Escape, WidthCountsCharacters) {
  EXPECT_EQ(display_width("été"), 3u);
  EXPECT_EQ(display_width(""), 0u);
}

}  // namespace
}  // namespace crible::report
