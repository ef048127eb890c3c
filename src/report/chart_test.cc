#include "report/chart.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "report/chart_axis.h"

namespace crible::report {
namespace {

TEST(Scale, TicksCoverTheValuesAndStayFew) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 5000; ++i) {
    const double low =
        std::ldexp(static_cast<double>(random() % 2000) - 1000, static_cast<int>(random() % 30) - 20);
    const double high =
        low + std::ldexp(static_cast<double>(random() % 1000), static_cast<int>(random() % 30) - 20);
    const Scale scale = Scale::linear(low, high, 100, 700);
    ASSERT_GE(scale.ticks().size(), 2u) << low << " " << high;
    ASSERT_LE(scale.ticks().size(), 12u) << low << " " << high;
    for (const double value : {low, high}) {
      EXPECT_GE(scale.at(value), 100 - 1e-3);  // far below a pixel
      EXPECT_LE(scale.at(value), 700 + 1e-3);
    }
  }
}

TEST(Scale, TightOnesKeepTheirEnds) {
  const Scale scale = Scale::tight(1, 16, 0, 150);
  EXPECT_DOUBLE_EQ(scale.at(1), 0);
  EXPECT_DOUBLE_EQ(scale.at(16), 150);
  EXPECT_EQ(scale.ticks(), (std::vector<double>{5, 10, 15}));
}

TEST(Scale, LabelsShowNoMoreDigitsThanNeeded) {
  const NumberFormat french(Language::kFrench);
  EXPECT_EQ(tick_label(0.8, true, french), "80\u202f%");
  EXPECT_EQ(tick_label(0.985, true, french), "98,5\u202f%");
  EXPECT_EQ(tick_label(0.05, false, french), "0,05");
  EXPECT_EQ(tick_label(2000, false, french), "2\u202f000");
}

TEST(Scale, LogarithmicTicksLieInside) {
  for (double low = 1e-3; low < 1e4; low *= 3.7) {
    for (double ratio = 1; ratio < 1e6; ratio *= 2.9) {
      const Scale scale = Scale::logarithmic(low, low * ratio, 0, 100);
      for (const double tick : scale.ticks()) {
        EXPECT_GE(scale.at(tick), -1e-9);
        EXPECT_LE(scale.at(tick), 100 + 1e-9);
      }
      EXPECT_GT(scale.at(low), 0);
      EXPECT_LT(scale.at(low * ratio), 100);
    }
  }
}

TEST(Chart, NothingToDrawIsSaid) {
  EXPECT_FALSE(has_data(IntervalChart{}));
  EXPECT_FALSE(has_data(IntervalChart{"ms", {"a"}, {{"s", {std::nullopt}}}}));
  EXPECT_TRUE(has_data(IntervalChart{"ms", {"a"}, {{"s", {Estimate{1, {}, {}, {}, ""}}}}}));
  EXPECT_FALSE(has_data(BarChart{"MiB", "", {{"a", std::nullopt, 3.0, ""}}}));
  LineChart line;
  line.lines = {{"a", {{1, 1, ""}}}};
  EXPECT_FALSE(has_data(line)) << "a single point is no line";
}

TEST(Chart, DrawsExtremesWithoutNonsense) {
  const NumberFormat numbers(Language::kEnglish);
  for (const double value : {0.0, -3.0, 1e-9, 5.0, 1e12}) {
    const Chart chart = IntervalChart{
        "ms", {"<a>", "b"}, {{"s", {Estimate{value, value, value, {value}, "<n>"}, std::nullopt}}}};
    const std::string svg = draw(chart, "t\"", numbers);
    EXPECT_EQ(svg.find("nan"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("inf"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("<a>"), std::string::npos);
    EXPECT_NE(svg.find("aria-label=\"t&quot;\""), std::string::npos);
    EXPECT_EQ(svg, draw(chart, "t\"", numbers));
  }
}

TEST(Chart, ShortensNamesByCharacters) {
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("abcd", 3), "ab\u2026");
  EXPECT_EQ(shortened("éééé", 3), "éé\u2026");
}

}  // namespace
}  // namespace crible::report
