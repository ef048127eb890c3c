#include "report/number_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace crible::report {
namespace {

TEST(NumberFormat, FollowsTheLanguage) {
  const NumberFormat english(Language::kEnglish);
  const NumberFormat french(Language::kFrench);
  EXPECT_EQ(english.fixed(1234567.891, 2), "1,234,567.89");
  EXPECT_EQ(french.fixed(1234567.891, 2), "1\u202f234\u202f567,89");
  EXPECT_EQ(english.percent(0.045), "4.5%");
  EXPECT_EQ(french.percent(0.045), "4,5\u202f%");
  EXPECT_EQ(english.integer(-1000), "\u22121,000");
  EXPECT_EQ(english.fixed(-0.0001, 2), "0.00") << "no minus before a zero";
  EXPECT_EQ(english.range("1", "2"), "[1\u00a0\u2013\u00a02]");
  EXPECT_EQ(french.bytes(1536), "1,50\u00a0Kio");
  EXPECT_EQ(english.bytes(640), "640\u00a0B");
}

TEST(NumberFormat, KeepsThreeSignificantDigits) {
  const NumberFormat english(Language::kEnglish);
  EXPECT_EQ(english.significant(0), "0");
  EXPECT_EQ(english.significant(0.01234), "0.0123");
  EXPECT_EQ(english.significant(0.1234), "0.123");
  EXPECT_EQ(english.significant(4.567), "4.57");
  EXPECT_EQ(english.significant(9.996), "10.0");
  EXPECT_EQ(english.significant(99.96), "100");
  EXPECT_EQ(english.significant(4567.4), "4,567");
  EXPECT_EQ(english.significant(std::nan("")), "\u2014");
  EXPECT_EQ(english.significant(std::numeric_limits<double>::infinity()), "\u2014");
}

TEST(NumberFormat, WordsRatiosAsChanges) {
  const NumberFormat english(Language::kEnglish);
  EXPECT_EQ(english.change(0.46), "\u221254.0%");
  EXPECT_EQ(english.change(1.031), "+3.1%");
  EXPECT_EQ(english.change(1), "0%");
  EXPECT_EQ(english.factor(3.222), "\u00d73.22");
  EXPECT_EQ(english.factor(21.34), "\u00d721.3");
}

TEST(NumberFormat, WordsDurations) {
  const NumberFormat english(Language::kEnglish);
  EXPECT_EQ(english.duration(45.4), "45\u00a0s");
  EXPECT_EQ(english.duration(200), "3\u00a0min\u00a020\u00a0s");
  EXPECT_EQ(english.duration(7500), "2\u00a0h\u00a05\u00a0min");
}

// Rounding never moves a value across zero or by more than half of its last printed digit.
TEST(NumberFormat, SignificantIsCloseToTheValue) {
  const NumberFormat english(Language::kEnglish);
  for (double value = 1e-3; value < 1e7; value *= 1.0173) {
    std::string digits = english.significant(value);
    std::erase(digits, ',');
    EXPECT_NEAR(std::stod(digits), value, value * 0.0051 + 0.00005) << digits;
  }
}

}  // namespace
}  // namespace crible::report
