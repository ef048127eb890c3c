#include <algorithm>
#include <cmath>
#include <limits>

#include "report/chart_axis.h"
#include "report/chart_drawing.h"
#include "report/escape.h"

namespace crible::report {
namespace {

constexpr double kSeriesHeight = 22;
constexpr double kRowPadding = 12;
constexpr double kAxisHeight = 40;
constexpr double kValueWidth = 84;
constexpr size_t kMostNameCharacters = 30;
constexpr double kLogarithmicFrom =
    20;  // largest over smallest value: a linear axis would hide the small ones

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

Extent extent_of(const IntervalChart& chart) {
  Extent extent;
  for (const auto& series : chart.series) {
    for (const auto& estimate : series.estimates) {
      if (!estimate) continue;
      extent.take(estimate->value);
      if (estimate->low) extent.take(*estimate->low);
      if (estimate->high) extent.take(*estimate->high);
      for (const double point : estimate->points) extent.take(point);
    }
  }
  return extent;
}

double name_column(const std::vector<std::string>& rows) {
  size_t longest = 0;
  for (const std::string& row : rows)
    longest = std::max(longest, display_width(shortened(row, kMostNameCharacters)));
  return static_cast<double>(longest) * kCharacterWidth + 16;
}

void draw_estimate(SvgCanvas& canvas, const Estimate& estimate, size_t series, double y, const Scale& x) {
  const std::string colour = colour_class(series);
  if (estimate.low && estimate.high) {
    const double low = x.at(*estimate.low);
    const double high = x.at(*estimate.high);
    canvas.rectangle(low, y - 3, std::max(high - low, 1.0), 6, "whisker " + colour, estimate.note);
  }
  for (const double point : estimate.points)
    canvas.line(x.at(point), y + 5, x.at(point), y + 9, "sample " + colour);
  canvas.marker(x.at(estimate.value), y, series, estimate.note);
}

void draw_axis(SvgCanvas& canvas, const Scale& x, double top, double bottom, const std::string& unit,
               const NumberFormat& numbers) {
  for (const double tick : x.ticks()) {
    canvas.line(x.at(tick), top, x.at(tick), bottom, "grid");
    canvas.text(x.at(tick), bottom + 16, tick_label(tick, false, numbers), "tick middle");
  }
  canvas.text(kChartWidth, bottom + 33, unit, "tick end");
}

}  // namespace

std::string draw_chart(const IntervalChart& chart, const std::string& title, const NumberFormat& numbers) {
  std::vector<std::string> names;
  for (const auto& series : chart.series) names.push_back(series.name);
  const bool several = names.size() > 1;
  const double left = name_column(chart.rows);
  const double right = kChartWidth - kValueWidth;
  const double top = several ? legend_height(names, 0) + 8 : 4;
  const double row_height = kSeriesHeight * static_cast<double>(names.size()) + kRowPadding;
  const double bottom = top + row_height * static_cast<double>(chart.rows.size());

  const Extent extent = extent_of(chart);
  const bool logarithmic = extent.low > 0 && extent.high > kLogarithmicFrom * extent.low;
  const bool from_zero = extent.low > 0 && extent.low < 0.6 * extent.high;
  const Scale x = logarithmic ? Scale::logarithmic(extent.low, extent.high, left, right)
                              : Scale::linear(from_zero ? 0 : extent.low, extent.high, left, right);
  SvgCanvas canvas(bottom + kAxisHeight, title);
  if (several) draw_legend(canvas, names, 0, 0);
  draw_axis(canvas, x, top, bottom, chart.unit + (logarithmic ? " (log)" : ""), numbers);
  for (size_t row = 0; row < chart.rows.size(); ++row) {
    const double row_top = top + row_height * static_cast<double>(row);
    if (row > 0) canvas.line(0, row_top, kChartWidth, row_top, "rule");
    canvas.text(0, row_top + row_height / 2 + 4, shortened(chart.rows[row], kMostNameCharacters),
                "label name");
    for (size_t series = 0; series < names.size(); ++series) {
      const double y = row_top + kRowPadding / 2 + kSeriesHeight * (static_cast<double>(series) + 0.5);
      const auto& estimate = chart.series[series].estimates[row];
      if (estimate) draw_estimate(canvas, *estimate, series, y, x);
      canvas.text(kChartWidth, y + 4, estimate ? numbers.significant(estimate->value) : "\u2014",
                  "value end");
    }
  }
  return canvas.finish();
}

}  // namespace crible::report
