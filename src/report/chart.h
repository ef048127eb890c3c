// Charts as data, and their drawing as static SVG: no script, the same bytes for the same data.
// Colours and type come from the page's style (classes), so that one drawing serves light, dark
// and print; every mark carries its numbers as a title that browsers show on hover.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "report/number_format.h"

namespace crible::report {

struct Estimate {
  double value = 0;
  std::optional<double> low;  // interval: both ends or none
  std::optional<double> high;
  std::vector<double> points;  // what it was made of (one value per block), drawn faintly
  std::string note;
};

// One row per configuration; in it a dot with a whisker per series. A missing estimate is a dash.
struct IntervalChart {
  struct Series {
    std::string name;
    std::vector<std::optional<Estimate>> estimates;  // one per row
  };
  std::string unit;  // of the axis; "" for none
  std::vector<std::string> rows;
  std::vector<Series> series;
};

// Lines over a numeric axis: load curves (markers), latency by order, distributions (steps).
struct LineChart {
  struct Point {
    double x = 0;
    double y = 0;
    std::string note;
  };
  struct Line {
    std::string name;
    std::vector<Point> points;  // x ascending
  };
  std::string x_title;
  std::string y_title;
  bool x_logarithmic = false;
  bool steps = false;
  bool markers = true;
  bool y_percent = false;
  bool y_from_zero = true;
  std::vector<Line> lines;
};

// One bar per row, with a tick where its limit stands.
struct BarChart {
  struct Bar {
    std::string name;
    std::optional<double> value;
    std::optional<double> limit;
    std::string note;
  };
  std::string unit;
  std::string limit_name;
  std::vector<Bar> bars;
};

using Chart = std::variant<IntervalChart, LineChart, BarChart>;

// False when there is nothing to draw: the figure is then left out.
bool has_data(const Chart& chart);
// An <svg> element; `title` is its accessible name.
std::string draw(const Chart& chart, const std::string& title, const NumberFormat& numbers);

}  // namespace crible::report
