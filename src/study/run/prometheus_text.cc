#include "study/run/prometheus_text.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace crible::study {
namespace {

std::optional<double> parse_value(std::string_view text) {
  if (text == "+Inf" || text == "Inf") return std::numeric_limits<double>::infinity();
  if (text == "-Inf") return -std::numeric_limits<double>::infinity();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// One line, taken from the left.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  std::optional<MetricLine> read() {
    MetricLine result;
    const size_t end = rest_.find_first_of("{ \t");
    if (end == std::string_view::npos || end == 0) return std::nullopt;
    result.name = rest_.substr(0, end);
    rest_.remove_prefix(end);
    if (rest_.front() == '{' && !read_labels(result.labels)) return std::nullopt;
    skip_blanks();
    const std::optional<double> value = parse_value(rest_.substr(0, rest_.find_first_of(" \t\r")));
    if (!value) return std::nullopt;
    result.value = *value;
    return result;
  }

 private:
  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\t')) rest_.remove_prefix(1);
  }

  bool read_labels(std::map<std::string, std::string>& labels) {
    rest_.remove_prefix(1);
    while (true) {
      skip_blanks();
      if (rest_.starts_with('}')) {
        rest_.remove_prefix(1);
        return true;
      }
      const size_t equals = rest_.find("=\"");
      if (equals == std::string_view::npos) return false;
      const std::string name(rest_.substr(0, equals));
      rest_.remove_prefix(equals + 2);
      if (!read_label_value(labels[name])) return false;
      skip_blanks();
      if (rest_.starts_with(',')) rest_.remove_prefix(1);
    }
  }

  bool read_label_value(std::string& value) {
    for (size_t i = 0; i < rest_.size(); ++i) {
      if (rest_[i] == '"') {
        rest_.remove_prefix(i + 1);
        return true;
      }
      if (rest_[i] == '\\' && i + 1 < rest_.size()) {
        ++i;
        value += rest_[i] == 'n' ? '\n' : rest_[i];
      } else {
        value += rest_[i];
      }
    }
    return false;
  }

  std::string_view rest_;
};

}  // namespace

std::vector<MetricLine> parse_prometheus(std::string_view text) {
  std::vector<MetricLine> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.empty() || line.front() == '#') continue;
    if (auto sample = LineReader(line).read()) lines.push_back(std::move(*sample));
  }
  return lines;
}

std::map<std::string, double> counters(const std::vector<MetricLine>& lines) {
  std::map<std::string, double> sums;
  for (const MetricLine& line : lines) {
    const bool counter =
        line.name.ends_with("_total") || line.name.ends_with("_sum") || line.name.ends_with("_count");
    if (counter && std::isfinite(line.value)) sums[line.name] += line.value;
  }
  return sums;
}

}  // namespace crible::study
