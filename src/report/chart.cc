#include "report/chart.h"

#include <algorithm>

#include "report/chart_drawing.h"

namespace crible::report {
namespace {

bool drawable(const IntervalChart& chart) {
  return std::any_of(chart.series.begin(), chart.series.end(), [](const IntervalChart::Series& series) {
    return std::any_of(series.estimates.begin(), series.estimates.end(),
                       [](const std::optional<Estimate>& estimate) { return estimate.has_value(); });
  });
}

bool drawable(const LineChart& chart) {
  return std::any_of(chart.lines.begin(), chart.lines.end(),
                     [](const LineChart::Line& line) { return line.points.size() > 1; });
}

bool drawable(const BarChart& chart) {
  return std::any_of(chart.bars.begin(), chart.bars.end(),
                     [](const BarChart::Bar& bar) { return bar.value.has_value(); });
}

}  // namespace

bool has_data(const Chart& chart) {
  return std::visit([](const auto& kind) { return drawable(kind); }, chart);
}

std::string draw(const Chart& chart, const std::string& title, const NumberFormat& numbers) {
  return std::visit([&](const auto& kind) { return draw_chart(kind, title, numbers); }, chart);
}

}  // namespace crible::report
