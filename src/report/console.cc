#include "report/console.h"

#include <algorithm>
#include <vector>

#include "report/chart_axis.h"
#include "report/escape.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

constexpr const char* kMetrics[] = {"ttft_miss_ms",        "ttft_hit_ms", "acceleration",
                                    "output_tokens_per_s", "itl_ms",      "device_memory_mib"};
constexpr size_t kGap = 2;
constexpr size_t kLeastNameWidth = 8;

struct TextColumn {
  std::string header;
  bool right = true;
  std::vector<std::string> cells;

  size_t width() const {
    size_t widest = display_width(header);
    for (const std::string& cell : cells) widest = std::max(widest, display_width(cell));
    return widest;
  }
};

std::string padded(const std::string& words, size_t width, bool right) {
  const size_t taken = display_width(words);
  const std::string space(width > taken ? width - taken : 0, ' ');
  return right ? space + words : words + space;
}

std::vector<TextColumn> columns_of(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  std::vector<TextColumn> columns = {{scribe.say(Phrase::kConfiguration), false, {}}};
  for (const char* metric : kMetrics) {
    columns.push_back({scribe.metric_column(metric), true, {}});
  }
  columns.push_back({scribe.say(Phrase::kStatus), false, {}});
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    columns.front().cells.push_back(clean_text(configuration.name));
    for (size_t i = 0; i < std::size(kMetrics); ++i) {
      const study::MetricSummary* summary = find_summary(configuration, std::string(kMetrics[i]));
      columns[i + 1].cells.push_back(summary == nullptr ? kNotMeasured
                                                        : scribe.bare_amount(kMetrics[i], summary->p50));
    }
    columns.back().cells.push_back(scribe.status_label(configuration.status));
  }
  return columns;
}

// Leaves out columns until the rest fits: the last metric first, then the others, the status last.
void fit(std::vector<TextColumn>& columns, size_t most) {
  const auto total = [&] {
    size_t width = 0;
    for (const TextColumn& column : columns) width += column.width() + kGap;
    return width - kGap;
  };
  while (columns.size() > 2 && total() > most) columns.erase(columns.end() - 2);
  if (columns.size() == 2 && total() > most) columns.pop_back();
  if (total() <= most) return;
  TextColumn& names = columns.front();
  const size_t width = std::max(most, kLeastNameWidth);
  for (std::string& cell : names.cells) cell = shortened(cell, width);
  names.header = shortened(names.header, width);
}

const char* colour_of(study::VerdictKind kind) {
  switch (kind) {
    case study::VerdictKind::kWinner: return "\033[32m";
    case study::VerdictKind::kTie: return "\033[36m";
    case study::VerdictKind::kInsufficient: return "\033[33m";
    case study::VerdictKind::kBlocked: return "\033[31m";
  }
  return "";
}

std::string verdict_line(const ReportContext& context, const study::Verdict& verdict, size_t most,
                         bool colour) {
  const std::string label = verdict_label(context.scribe, verdict.kind);
  const std::string name =
      verdict.configuration.empty() ? "" : " \u00b7 " + clean_text(verdict.configuration);
  const std::string start = context.scribe.objective_label(verdict.objective) + " \u2192 ";
  const std::string line = shortened(start + label + name, most);
  if (!colour || line.size() < start.size() + label.size()) return line + "\n";
  return start + colour_of(verdict.kind) + label + "\033[0m" + line.substr(start.size() + label.size()) +
         "\n";
}

}  // namespace

std::string render_console(const ReportContext& context, size_t columns, bool colour) {
  const size_t most = std::max(columns, kLeastNameWidth);
  std::vector<TextColumn> table = columns_of(context);
  fit(table, most);
  std::string out;
  const auto line_of = [&](auto cell) {
    std::string line;
    for (const TextColumn& column : table) {
      if (!line.empty()) line += std::string(kGap, ' ');
      line += padded(cell(column), column.width(), column.right);
    }
    while (line.ends_with(' ')) line.pop_back();
    return line;
  };
  const std::string header = line_of([](const TextColumn& column) { return column.header; });
  out += colour ? "\033[1m" + header + "\033[0m\n" : header + "\n";
  for (size_t row = 0; row < context.study.configurations.size(); ++row) {
    out += line_of([&](const TextColumn& column) { return column.cells[row]; }) + "\n";
  }
  if (!context.study.verdicts.empty()) out += "\n";
  for (const study::Verdict& verdict : context.study.verdicts)
    out += verdict_line(context, verdict, most, colour);
  return out;
}

}  // namespace crible::report
