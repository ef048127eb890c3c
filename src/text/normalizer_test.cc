#include "text/normalizer.h"

#include <gtest/gtest.h>

namespace crible {
namespace {

TEST(Normalizer, UnicodeForms) {
  EXPECT_EQ(to_unicode_form("e\u0301ﬁ", UnicodeForm::kNfc), "éﬁ");
  EXPECT_EQ(to_unicode_form("éﬁ", UnicodeForm::kNfd), "e\u0301ﬁ");
  EXPECT_EQ(to_unicode_form("ｅ\u0301ﬁ①", UnicodeForm::kNfkc), "éfi1");
  EXPECT_EQ(to_unicode_form("éﬁ", UnicodeForm::kNfkd), "e\u0301fi");
  // Hangul composes and comes apart by rule.
  EXPECT_EQ(to_unicode_form("한글", UnicodeForm::kNfd), "\u1112\u1161\u11ab\u1100\u1173\u11af");
  EXPECT_EQ(to_unicode_form("\u1112\u1161\u11ab\u1100\u1173\u11af", UnicodeForm::kNfc), "한글");
  // Marks below go before marks above; of one class the order stays.
  EXPECT_EQ(to_unicode_form("q\u0307\u0323", UnicodeForm::kNfc), "q\u0323\u0307");
  EXPECT_EQ(to_unicode_form("", UnicodeForm::kNfc), "");
}

TEST(Normalizer, AMegabyteOfMarksInTheWorstOrderIsSorted) {
  std::string marks = "q";
  std::string below = "q", above;
  for (int i = 0; i < 250000; ++i) {
    marks += "\u0307\u0323";  // classes 230 and 220
    below += "\u0323";
    above += "\u0307";
  }
  EXPECT_EQ(to_unicode_form(marks, UnicodeForm::kNfd), below + above);
}

TEST(Normalizer, StepsInTheirOrder) {
  std::vector<NormalizerStep> steps;
  steps.emplace_back(StripStep{true, false});
  steps.emplace_back(LowercaseStep{});
  steps.emplace_back(LiteralReplaceStep{"ab", "b"});
  steps.emplace_back(PrependStep{">"});
  const Normalizer normalizer(std::move(steps));
  EXPECT_EQ(normalizer.apply(" \u3000AaB \u0130Σ "), ">ab i\u0307σ ");
  EXPECT_EQ(normalizer.apply(" \u2003 "), "");  // nothing is put before nothing
  EXPECT_TRUE(Normalizer().empty());
  EXPECT_EQ(Normalizer().apply(" x"), " x");
}

TEST(Normalizer, PatternsAndSpaces) {
  std::vector<NormalizerStep> steps;
  steps.emplace_back(PatternReplaceStep{TextPattern::compile("[0-9]+", 1000).value(), "#"});
  steps.emplace_back(CollapseSpacesStep{});
  EXPECT_EQ(Normalizer(std::move(steps)).apply("  12a3   b  "), "#a# b");
}

}  // namespace
}  // namespace crible
