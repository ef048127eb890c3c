// Reads the Prometheus text exposition format, version 0.0.4, as far as a study needs it: samples
// with their labels. Lines that are no sample (comments, malformed ones) are skipped.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace crible::study {

struct MetricLine {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

std::vector<MetricLine> parse_prometheus(std::string_view text);

// Name -> sum over label sets, of counters (names that end in _total, _sum or _count).
std::map<std::string, double> counters(const std::vector<MetricLine>& lines);

}  // namespace crible::study
