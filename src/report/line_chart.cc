#include <algorithm>
#include <cmath>
#include <limits>

#include "report/chart_axis.h"
#include "report/chart_drawing.h"

namespace crible::report {
namespace {

constexpr double kPlotHeight = 240;
constexpr double kLeft = 64;
constexpr double kRight = kChartWidth - 14;

struct Frame {
  double top = 0;
  double bottom = 0;
  Scale x;
  Scale y;
};

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
};

template <typename Pick>
Extent extent_of(const LineChart& chart, Pick pick) {
  Extent extent;
  for (const auto& line : chart.lines) {
    for (const auto& point : line.points) {
      extent.low = std::min(extent.low, pick(point));
      extent.high = std::max(extent.high, pick(point));
    }
  }
  return extent;
}

Frame frame_of(const LineChart& chart, double top) {
  const Extent x = extent_of(chart, [](const LineChart::Point& point) { return point.x; });
  const Extent y = extent_of(chart, [](const LineChart::Point& point) { return point.y; });
  Frame frame;
  frame.top = top;
  frame.bottom = top + kPlotHeight;
  const bool logarithmic = chart.x_logarithmic && x.low > 0 && x.high > x.low;
  frame.x = logarithmic ? Scale::logarithmic(x.low, x.high, kLeft, kRight)
                        : Scale::tight(x.low, x.high, kLeft, kRight);
  const double low = chart.y_from_zero ? std::min(0.0, y.low) : y.low;
  frame.y = Scale::linear(low, y.high, frame.bottom, frame.top);
  return frame;
}

void draw_axes(SvgCanvas& canvas, const LineChart& chart, const Frame& frame, const NumberFormat& numbers) {
  for (const double tick : frame.y.ticks()) {
    canvas.line(kLeft, frame.y.at(tick), kRight, frame.y.at(tick), "grid");
    canvas.text(kLeft - 8, frame.y.at(tick) + 4, tick_label(tick, chart.y_percent, numbers), "tick end");
  }
  for (const double tick : frame.x.ticks()) {
    canvas.line(frame.x.at(tick), frame.bottom, frame.x.at(tick), frame.bottom + 5, "axis");
    canvas.text(frame.x.at(tick), frame.bottom + 20, tick_label(tick, false, numbers), "tick middle");
  }
  canvas.line(kLeft, frame.bottom, kRight, frame.bottom, "axis");
  canvas.text(kRight, frame.bottom + 38, chart.x_title, "tick end");
  canvas.text(0, frame.top - 12, chart.y_title, "tick");
}

std::string path_of(const LineChart& chart, const LineChart::Line& line, const Frame& frame) {
  std::string commands;
  for (const LineChart::Point& point : line.points) {
    const std::string x = coordinate(frame.x.at(point.x));
    const std::string y = coordinate(frame.y.at(point.y));
    if (commands.empty()) {
      commands = chart.steps ? "M" + x + " " + coordinate(frame.y.at(0)) + "V" + y : "M" + x + " " + y;
    } else {
      commands += chart.steps ? "H" + x + "V" + y : "L" + x + " " + y;
    }
  }
  return commands;
}

}  // namespace

std::string draw_chart(const LineChart& chart, const std::string& title, const NumberFormat& numbers) {
  std::vector<std::string> names;
  for (const auto& line : chart.lines) names.push_back(shortened(line.name, 34));
  const double legend = legend_height(names, 0);
  const Frame frame = frame_of(chart, legend + 36);
  SvgCanvas canvas(frame.bottom + 44, title);
  draw_legend(canvas, names, 0, 0);
  draw_axes(canvas, chart, frame, numbers);
  for (size_t i = 0; i < chart.lines.size(); ++i) {
    const LineChart::Line& line = chart.lines[i];
    // Beyond the palette, colours come back with a dashed line.
    const std::string dash = i >= static_cast<size_t>(kColours) ? " dashed" : "";
    canvas.path(path_of(chart, line, frame), "line " + colour_class(i) + dash);
    if (!chart.markers) continue;
    for (const LineChart::Point& point : line.points) {
      const std::string note = point.note.empty() ? line.name : line.name + ": " + point.note;
      canvas.marker(frame.x.at(point.x), frame.y.at(point.y), i, note);
    }
  }
  return canvas.finish();
}

}  // namespace crible::report
