#include "report/chart_axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/escape.h"

namespace crible::report {
namespace {

constexpr double kLegendLine = 20;
constexpr double kLegendGap = 34;  // marker and space around a name
constexpr size_t kMostTicks = 9;

// The round step (1, 2 or 5 times a power of ten) that gives about five ticks.
double round_step(double span) {
  const double raw = span / 5;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

double name_width(const std::string& name) {
  return static_cast<double>(display_width(name)) * kCharacterWidth + kLegendGap;
}

}  // namespace

Scale Scale::linear(double low, double high, double from, double to) {
  if (!(high > low)) {
    const double margin = low == 0 ? 1 : std::fabs(low) * 0.1;
    low -= margin;
    high = low + 2 * margin;
  }
  Scale scale;
  const double step = round_step(high - low);
  scale.low_ = std::floor(low / step + 1e-9) * step;
  scale.high_ = std::ceil(high / step - 1e-9) * step;
  scale.from_ = from;
  scale.to_ = to;
  const auto count = static_cast<int>(std::lround((scale.high_ - scale.low_) / step));
  for (int i = 0; i <= count; ++i) {
    const double tick = scale.low_ + i * step;
    scale.ticks_.push_back(std::fabs(tick) < step * 1e-9 ? 0 : tick);
  }
  return scale;
}

Scale Scale::tight(double low, double high, double from, double to) {
  Scale scale = linear(low, high, from, to);
  if (!(high > low)) return scale;
  scale.low_ = low;
  scale.high_ = high;
  std::erase_if(scale.ticks_, [&](double tick) { return tick < low || tick > high; });
  return scale;
}

Scale Scale::logarithmic(double low, double high, double from, double to) {
  Scale scale;
  scale.logarithmic_ = true;
  scale.from_ = from;
  scale.to_ = to;
  const double room = std::max(std::pow(high / low, 0.04), 1.02);
  scale.low_ = std::log10(low / room);
  scale.high_ = std::log10(high * room);
  for (const bool all : {true, false}) {
    scale.ticks_.clear();
    for (int power = static_cast<int>(std::floor(scale.low_)); power <= scale.high_; ++power) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double tick = factor * std::pow(10, power);
        const bool inside = std::log10(tick) >= scale.low_ && std::log10(tick) <= scale.high_;
        if (inside && (all || factor == 1.0)) scale.ticks_.push_back(tick);
      }
    }
    if (scale.ticks_.size() <= kMostTicks) break;
  }
  return scale;
}

double Scale::at(double value) const {
  const double position = logarithmic_ ? std::log10(value) : value;
  return from_ + (position - low_) / (high_ - low_) * (to_ - from_);
}

SvgCanvas::SvgCanvas(double height, const std::string& title) {
  body_ = fmt::format("<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                      coordinate(kChartWidth), coordinate(height), escape_html(title));
}

void SvgCanvas::line(double x1, double y1, double x2, double y2, std::string_view style_class) {
  body_ += fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", style_class,
                       coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2));
}

void SvgCanvas::text(double x, double y, std::string_view words, std::string_view style_class) {
  body_ += fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>\n", style_class, coordinate(x),
                       coordinate(y), escape_html(words));
}

void SvgCanvas::rectangle(double x, double y, double width, double height, std::string_view style_class,
                          std::string_view note) {
  body_ += fmt::format(
      "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"3\"><title>{}</title></rect>\n",
      style_class, coordinate(x), coordinate(y), coordinate(width), coordinate(height), escape_html(note));
}

void SvgCanvas::path(std::string_view commands, std::string_view style_class) {
  body_ += fmt::format("<path class=\"{}\" d=\"{}\"/>\n", style_class, commands);
}

void SvgCanvas::marker(double x, double y, size_t series, std::string_view note) {
  static constexpr const char* kShapes[] = {"M-4.6 0a4.6 4.6 0 1 0 9.2 0a4.6 4.6 0 1 0-9.2 0z",
                                            "M-4.2-4.2h8.4v8.4h-8.4z",
                                            "M0-5.8L5.8 0L0 5.8L-5.8 0z",
                                            "M0-5.4L5.2 4.2H-5.2z",
                                            "M0 5.4L5.2-4.2H-5.2z",
                                            "M-1.8-5h3.6v3.2h3.2v3.6h-3.2v3.2h-3.6v-3.2h-3.2v-3.6h3.2z"};
  const std::string title = note.empty() ? "" : "<title>" + escape_html(note) + "</title>";
  body_ += fmt::format("<path class=\"mark {}\" transform=\"translate({} {})\" d=\"{}\">{}</path>\n",
                       colour_class(series), coordinate(x), coordinate(y),
                       kShapes[series % std::size(kShapes)], title);
}

std::string SvgCanvas::finish() {
  return body_ + "</svg>\n";
}

std::string coordinate(double value) {
  std::string digits = fmt::format("{:.1f}", value);
  if (digits.ends_with(".0")) digits.resize(digits.size() - 2);
  return digits == "-0" ? "0" : digits;
}

std::string colour_class(size_t series) {
  return fmt::format("c{}", series % kColours);
}

std::string shortened(const std::string& words, size_t most_characters) {
  const std::string clean = clean_text(words);
  if (display_width(clean) <= most_characters) return clean;
  std::string kept;
  size_t characters = 0;
  for (const char c : clean) {
    const bool starts = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (starts && ++characters == most_characters) break;
    kept += c;
  }
  return kept + "\u2026";
}

std::string tick_label(double value, bool percent, const NumberFormat& numbers) {
  if (percent) value *= 100;
  const double size = std::fabs(value);
  for (const int decimals : {0, 1, 2, 3}) {
    const double scaled = size * std::pow(10, decimals);
    const bool exact = std::fabs(scaled - std::round(scaled)) < 1e-6 * std::max(1.0, scaled);
    if (exact)
      return percent ? numbers.percent_sign(numbers.fixed(value, decimals)) : numbers.fixed(value, decimals);
  }
  return percent ? numbers.percent_points(value) : numbers.significant(value);
}

double legend_height(const std::vector<std::string>& names, double left) {
  double x = left;
  double height = kLegendLine;
  for (const std::string& name : names) {
    if (x > left && x + name_width(name) > kChartWidth) {
      x = left;
      height += kLegendLine;
    }
    x += name_width(name);
  }
  return height;
}

double draw_legend(SvgCanvas& canvas, const std::vector<std::string>& names, double left, double top) {
  double x = left;
  double y = top + kLegendLine / 2;
  for (size_t i = 0; i < names.size(); ++i) {
    if (x > left && x + name_width(names[i]) > kChartWidth) {
      x = left;
      y += kLegendLine;
    }
    canvas.marker(x + 6, y, i, "");
    canvas.text(x + 16, y + 4, names[i], "label");
    x += name_width(names[i]);
  }
  return legend_height(names, left);
}

}  // namespace crible::report
