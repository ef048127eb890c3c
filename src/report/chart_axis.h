// Scales with round ticks, and a small writer of SVG elements, shared by the charts. Lengths are
// in the drawing's own units (kChartWidth wide), which the page scales to its column.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "report/number_format.h"

namespace crible::report {

inline constexpr double kChartWidth = 760;
inline constexpr double kCharacterWidth = 6.9;  // mean, at the drawing's type size
inline constexpr int kColours = 8;              // classes c0 ... c7 of the page's style

// Maps values to positions, linearly or by logarithm.
class Scale {
 public:
  // Covers [low, high], widened to round ticks. A logarithmic one needs low > 0.
  static Scale linear(double low, double high, double from, double to);
  // Covers exactly [low, high]; round ticks inside.
  static Scale tight(double low, double high, double from, double to);
  static Scale logarithmic(double low, double high, double from, double to);

  double at(double value) const;
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  bool logarithmic_ = false;
  double low_ = 0;
  double high_ = 1;
  double from_ = 0;
  double to_ = 1;
  std::vector<double> ticks_;
};

class SvgCanvas {
 public:
  SvgCanvas(double height, const std::string& title);

  void line(double x1, double y1, double x2, double y2, std::string_view style_class);
  void text(double x, double y, std::string_view words, std::string_view style_class);
  void rectangle(double x, double y, double width, double height, std::string_view style_class,
                 std::string_view note);
  void path(std::string_view commands, std::string_view style_class);
  // One of six shapes, so that colour is never the only difference.
  void marker(double x, double y, size_t series, std::string_view note);
  std::string finish();

 private:
  std::string body_;
};

std::string coordinate(double value);  // one decimal
std::string colour_class(size_t series);
std::string shortened(const std::string& words, size_t most_characters);
std::string tick_label(double value, bool percent, const NumberFormat& numbers);

// Names with their markers in as many lines as they need; returns the height that it took.
double draw_legend(SvgCanvas& canvas, const std::vector<std::string>& names, double left, double top);
double legend_height(const std::vector<std::string>& names, double left);

}  // namespace crible::report
