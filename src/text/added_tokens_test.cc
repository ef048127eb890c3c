#include "text/added_tokens.h"

#include <gtest/gtest.h>

namespace crible {
namespace {

// "begin-end:token" of every match.
std::string found(const AddedTokens& added, std::string_view text, bool parse_special = true) {
  std::string all;
  for (size_t at = 0; at < text.size();) {
    const auto match = added.find(text, at, parse_special);
    if (match.end == match.begin) break;
    all += fmt::format("{}-{}:{} ", match.begin, match.end, match.token);
    at = match.end;
  }
  return all;
}

TEST(AddedTokens, LeftmostLongestAndControlOnlyWhenAsked) {
  AddedTokens added;
  EXPECT_TRUE(added.empty());
  added.add("<s>", true, {.id = 1});
  added.add("<s>x", false, {.id = 2});
  added.add("s>", false, {.id = 3});
  EXPECT_EQ(found(added, "a<s>x<s>"), "1-5:2 5-8:1 ");
  EXPECT_EQ(found(added, "a<s>y"), "1-4:1 ");
  EXPECT_EQ(found(added, "a<s>y", false), "2-4:3 ");
}

TEST(AddedTokens, WhiteSpaceTakenBeforeAndAfter) {
  AddedTokens added;
  added.add("<l>", false, {.id = 1, .strip_left = true});
  added.add("<r>", false, {.id = 2, .strip_right = true});
  EXPECT_EQ(found(added, "a \u3000<l> b"), "1-8:1 ");
  EXPECT_EQ(found(added, "a <r> \n b"), "2-8:2 ");
  // What one token took, the next does not take again.
  EXPECT_EQ(found(added, "<r>  <l>"), "0-5:2 5-8:1 ");
  EXPECT_EQ(found(added, " <l>"), "0-4:1 ");
}

TEST(AddedTokens, SingleWords) {
  AddedTokens added;
  added.add("cat", false, {.id = 1, .single_word = true});
  EXPECT_EQ(found(added, "cat cats concat cat! écat cat_ (cat)"), "0-3:1 16-19:1 33-36:1 ");
}

}  // namespace
}  // namespace crible
