#include "report/sections.h"

#include <algorithm>

#include "report/settings.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

constexpr const char* kMetrics[] = {"ttft_miss_ms", "ttft_hit_ms",         "ttft_repeat_ms",
                                    "acceleration", "output_tokens_per_s", "device_memory_mib"};

Cell setting_cell(const ReportContext& context, const study::ConfigurationResult& configuration,
                  const std::string& name) {
  const auto value = setting(configuration, name);
  Span span = text(context.scribe.yes_no(value ? std::optional(value->value) : std::nullopt));
  if (value && !value->effective) {
    span = noted(detail(span.text), context.scribe.say(Phrase::kRequestedOnlyNote));
  }
  return {{span}};
}

// What became of a configuration: the use cases that it won, or how far its measurement got.
Cell status_cell(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  std::vector<Inline> won;
  std::vector<Inline> tied;
  for (const study::Verdict& verdict : context.study.verdicts) {
    const Inline label = {text(scribe.objective_label(verdict.objective))};
    if (verdict.kind == study::VerdictKind::kWinner && verdict.configuration == configuration.name)
      won.push_back(label);
    const bool contends = std::find(verdict.contenders.begin(), verdict.contenders.end(),
                                    configuration.name) != verdict.contenders.end();
    if (verdict.kind == study::VerdictKind::kTie &&
        (contends || verdict.configuration == configuration.name)) {
      tied.push_back(label);
    }
  }
  Inline words = {text(scribe.status_label(configuration.status))};
  // The table of decisions names the use cases; here a single one is named, several are counted.
  const auto cases = [&](const std::vector<Inline>& labels) {
    const auto count = static_cast<int64_t>(labels.size());
    return count == 1 ? labels.front()
                      : Inline{text(scribe.say(Phrase::kUseCaseCount, {scribe.numbers().integer(count)}))};
  };
  if (!won.empty()) append(words, scribe.compose(Phrase::kStatusWins, {cases(won)}));
  if (!tied.empty()) append(words, scribe.compose(Phrase::kStatusTies, {cases(tied)}));
  const bool failed = configuration.status == study::ConfigurationStatus::kFailed;
  const bool partial = configuration.status == study::ConfigurationStatus::kPartial;
  const Tone tone = failed ? Tone::kBad : partial ? Tone::kWarning : won.empty() ? Tone::kPlain : Tone::kGood;
  return {words, tone};
}

Table comparison(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Table table;
  table.caption = scribe.say(Phrase::kCaptionComparison);
  table.columns = {{scribe.say(Phrase::kConfiguration)},
                   {scribe.say(Phrase::kMemoryShare), Align::kRight},
                   {scribe.say(Phrase::kChunkedPrefill), Align::kCenter},
                   {scribe.say(Phrase::kPrefixCaching), Align::kCenter},
                   {scribe.say(Phrase::kMaxSeqs), Align::kRight}};
  for (const char* metric : kMetrics) {
    table.columns.push_back({scribe.metric_column(metric), Align::kRight});
  }
  table.columns.push_back({scribe.say(Phrase::kStatus)});
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    std::vector<Cell> row = {{configuration_link(context.study, configuration.name)},
                             setting_cell(context, configuration, "gpu-memory-utilization"),
                             setting_cell(context, configuration, "enable-chunked-prefill"),
                             setting_cell(context, configuration, "enable-prefix-caching"),
                             setting_cell(context, configuration, "max-num-seqs")};
    for (const char* metric : kMetrics) {
      row.push_back({scribe.estimate(metric, find_summary(configuration, metric), false)});
    }
    row.push_back(status_cell(context, configuration));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::optional<Estimate> estimate_of(const ReportContext& context,
                                    const study::ConfigurationResult& configuration,
                                    const std::string& metric) {
  const study::MetricSummary* summary = find_summary(configuration, metric);
  if (summary == nullptr) return std::nullopt;
  Estimate estimate;
  estimate.value = summary->p50;
  if (summary->ci95) {
    estimate.low = summary->ci95->low;
    estimate.high = summary->ci95->high;
  }
  estimate.points = summary->block_values;
  estimate.note = plain_text(context.scribe.estimate(metric, summary, true)) + "; " +
                  context.scribe.source_note(*summary);
  return estimate;
}

Figure interval_figure(const ReportContext& context, const std::string& title,
                       const std::vector<std::string>& metrics) {
  IntervalChart chart;
  chart.unit = context.scribe.metric_unit(metrics.front());
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    chart.rows.push_back(configuration.name);
  }
  for (const std::string& metric : metrics) {
    IntervalChart::Series series{context.scribe.metric_label(metric), {}};
    bool measured = false;
    for (const study::ConfigurationResult& configuration : context.study.configurations) {
      series.estimates.push_back(estimate_of(context, configuration, metric));
      measured = measured || series.estimates.back();
    }
    if (measured) chart.series.push_back(std::move(series));
  }
  return {title, context.scribe.say(Phrase::kIntervalChartCaption), std::move(chart)};
}

}  // namespace

Section build_comparative_table(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"comparison", scribe.say(Phrase::kSectionComparison), {}, {}};
  if (context.study.configurations.empty()) {
    section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kNothingMeasured))}});
    return section;
  }
  section.blocks.push_back(comparison(context));
  section.blocks.push_back(List{{{Mark::kNone, {text(scribe.say(Phrase::kLegendInterval))}},
                                 {Mark::kNone, {text(scribe.say(Phrase::kLegendHit))}},
                                 {Mark::kNone, {text(scribe.say(Phrase::kLegendRepeat))}},
                                 {Mark::kNone, {text(scribe.say(Phrase::kLegendDash))}}},
                                false});
  const Figure figures[] = {
      interval_figure(context, scribe.say(Phrase::kFigureTtft),
                      {"ttft_miss_ms", "ttft_hit_ms", "ttft_repeat_ms"}),
      interval_figure(context, scribe.say(Phrase::kFigureThroughput), {"output_tokens_per_s"})};
  for (const Figure& figure : figures) {
    if (has_data(figure.chart)) section.blocks.push_back(figure);
  }
  return section;
}

}  // namespace crible::report
