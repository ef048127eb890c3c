#include <algorithm>

#include "report/chart_axis.h"
#include "report/chart_drawing.h"
#include "report/escape.h"

namespace crible::report {
namespace {

constexpr double kRowHeight = 34;
constexpr double kAxisHeight = 40;
constexpr double kValueWidth = 84;
constexpr size_t kMostNameCharacters = 30;

}  // namespace

std::string draw_chart(const BarChart& chart, const std::string& title, const NumberFormat& numbers) {
  size_t longest = 0;
  double most = 0;
  bool limits = false;
  for (const BarChart::Bar& bar : chart.bars) {
    longest = std::max(longest, display_width(shortened(bar.name, kMostNameCharacters)));
    most = std::max({most, bar.value.value_or(0), bar.limit.value_or(0)});
    limits = limits || bar.limit;
  }
  const double left = static_cast<double>(longest) * kCharacterWidth + 16;
  const double bottom = 6 + kRowHeight * static_cast<double>(chart.bars.size());
  const Scale x = Scale::linear(0, most, left, kChartWidth - kValueWidth);
  SvgCanvas canvas(bottom + kAxisHeight, title);
  for (const double tick : x.ticks()) {
    canvas.line(x.at(tick), 6, x.at(tick), bottom, "grid");
    canvas.text(x.at(tick), bottom + 16, tick_label(tick, false, numbers), "tick middle");
  }
  canvas.text(kChartWidth, bottom + 33, chart.unit + (limits ? "   \u2503 " + chart.limit_name : ""),
              "tick end");
  for (size_t row = 0; row < chart.bars.size(); ++row) {
    const BarChart::Bar& bar = chart.bars[row];
    const double y = 6 + kRowHeight * static_cast<double>(row);
    canvas.text(0, y + kRowHeight / 2 + 4, shortened(bar.name, kMostNameCharacters), "label name");
    if (bar.value) {
      canvas.rectangle(x.at(0), y + 8, x.at(*bar.value) - x.at(0), kRowHeight - 16, "bar c0", bar.note);
    }
    if (bar.limit) canvas.line(x.at(*bar.limit), y + 4, x.at(*bar.limit), y + kRowHeight - 4, "limit");
    canvas.text(kChartWidth, y + kRowHeight / 2 + 4, bar.value ? numbers.significant(*bar.value) : "\u2014",
                "value end");
  }
  return canvas.finish();
}

}  // namespace crible::report
