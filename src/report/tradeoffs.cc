#include <algorithm>
#include <cstdlib>

#include "report/sections.h"
#include "report/settings.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

Table metric_columns(const ReportContext& context, const std::vector<std::string>& metrics) {
  const Scribe& scribe = context.scribe;
  Table table;
  table.columns = {{scribe.say(Phrase::kConfiguration)}};
  for (const std::string& metric : metrics) {
    table.columns.push_back({scribe.metric_column(metric), Align::kRight});
  }
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    std::vector<Cell> row = {{configuration_link(context.study, configuration.name)}};
    for (const std::string& metric : metrics) {
      row.push_back({scribe.estimate(metric, find_summary(configuration, metric), false)});
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

LineChart lines_of(const std::vector<Trace>& traces) {
  LineChart chart;
  for (const Trace& trace : traces) {
    LineChart::Line line{trace.configuration, {}};
    for (size_t i = 0; i < trace.x.size(); ++i) line.points.push_back({trace.x[i], trace.y[i], ""});
    chart.lines.push_back(std::move(line));
  }
  return chart;
}

Figure distribution_figure(const ReportContext& context, const Distribution& distribution) {
  const Scribe& scribe = context.scribe;
  const std::string label = scribe.metric_label(distribution.metric);
  LineChart chart = lines_of(distribution.traces);
  chart.x_title = label + " (" + scribe.metric_unit(distribution.metric) + ")";
  chart.y_title = scribe.say(Phrase::kAxisShare);
  chart.x_logarithmic = true;
  chart.steps = true;
  chart.markers = false;
  chart.y_percent = true;
  return {scribe.say(Phrase::kFigureDistribution, {label, distribution.scenario}),
          scribe.say(Phrase::kFigureDistributionCaption), std::move(chart)};
}

Figure order_figure(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  LineChart chart = lines_of(context.traces.latency_order);
  chart.x_title = scribe.say(Phrase::kAxisOrder);
  chart.y_title = scribe.say(Phrase::kAxisRelativeLatency);
  chart.y_percent = true;
  chart.y_from_zero = false;
  return {scribe.say(Phrase::kFigureOrder), scribe.say(Phrase::kFigureOrderCaption), std::move(chart)};
}

Figure load_figure(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  LineChart chart;
  chart.x_title = scribe.say(Phrase::kAxisStreams);
  chart.y_title = scribe.metric_label("output_tokens_per_s");
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    LineChart::Line line{configuration.name, {}};
    for (const study::LoadPoint& point : configuration.load_curve) {
      const std::string note = scribe.say(
          Phrase::kLoadPointNote,
          {scribe.numbers().integer(point.level),
           scribe.amount("output_tokens_per_s", point.output_tokens_per_s),
           scribe.amount("ttft_ms", point.ttft_p50_ms), scribe.amount("itl_ms", point.itl_p50_ms),
           scribe.numbers().integer(point.requests), scribe.numbers().integer(point.failed_requests)});
      line.points.push_back({static_cast<double>(point.level), point.output_tokens_per_s, note});
    }
    if (!line.points.empty()) chart.lines.push_back(std::move(line));
  }
  return {scribe.say(Phrase::kFigureLoad), scribe.say(Phrase::kFigureLoadCaption), std::move(chart)};
}

// What the configuration allowed itself: its share of the device memory that it was given.
std::optional<double> memory_budget_mib(const study::ConfigurationResult& configuration) {
  const auto settings = settings_of(configuration.effective_json);
  const auto share = settings.find("gpu-memory-utilization");
  const auto bytes = settings.find("device-memory-bytes");
  if (share == settings.end() || bytes == settings.end()) return std::nullopt;
  const double product =
      std::strtod(share->second.c_str(), nullptr) * std::strtod(bytes->second.c_str(), nullptr);
  return product > 0 ? std::optional(product / (1024.0 * 1024.0)) : std::nullopt;
}

Figure memory_figure(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  BarChart chart;
  chart.unit = scribe.metric_unit("device_memory_mib");
  chart.limit_name = scribe.say(Phrase::kMemoryBudget);
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    const study::MetricSummary* summary = find_summary(configuration, "device_memory_mib");
    BarChart::Bar bar;
    bar.name = configuration.name;
    if (summary != nullptr) bar.value = summary->max;
    bar.limit = memory_budget_mib(configuration);
    bar.note = summary == nullptr
                   ? kNotMeasured
                   : scribe.amount("device_memory_mib", summary->max) + "; " + scribe.source_note(*summary);
    chart.bars.push_back(std::move(bar));
  }
  return {scribe.say(Phrase::kFigureMemory), scribe.say(Phrase::kFigureMemoryCaption), std::move(chart)};
}

void add_figure(std::vector<Block>& blocks, Figure figure) {
  if (has_data(figure.chart)) blocks.push_back(std::move(figure));
}

// --- Latency and stability.

ListItem slope_item(const ReportContext& context, const study::ConfigurationResult& configuration) {
  const Scribe& scribe = context.scribe;
  const Inline name = configuration_link(context.study, configuration.name);
  const study::MetricSummary* slope = find_summary(configuration, "latency_slope");
  if (slope == nullptr) return {Mark::kRemark, scribe.compose(Phrase::kSlopeUnmeasured, {name})};
  const Inline value = scribe.estimate("latency_slope", slope, true);
  if (!slope->ci95) return {Mark::kRemark, scribe.compose(Phrase::kSlopeUncertain, {name, value})};
  if (slope->ci95->low > 0) return {Mark::kWeakness, scribe.compose(Phrase::kSlopeGrows, {name, value})};
  if (slope->ci95->high < 0) return {Mark::kStrength, scribe.compose(Phrase::kSlopeFalls, {name, value})};
  return {Mark::kRemark, scribe.compose(Phrase::kSlopeNone, {name, value})};
}

Section latency_and_stability(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"latency-stability", scribe.say(Phrase::kSectionLatencyStability), {}, {}};
  section.blocks.push_back(
      metric_columns(context, {"ttft_ms", "itl_ms", "e2el_ms", "latency_slope", "error_rate"}));
  List slopes;
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    slopes.items.push_back(slope_item(context, configuration));
  }
  if (!slopes.items.empty()) section.blocks.push_back(std::move(slopes));
  for (const Distribution& distribution : context.traces.distributions) {
    add_figure(section.blocks, distribution_figure(context, distribution));
  }
  add_figure(section.blocks, order_figure(context));
  return section;
}

// --- Throughput and memory.

const study::Contrast* find_contrast(const study::StudyResult& study, const std::string& metric,
                                     const std::string& one, const std::string& other) {
  for (const study::Contrast& contrast : study.contrasts) {
    const bool pair =
        (contrast.a == one && contrast.b == other) || (contrast.a == other && contrast.b == one);
    if (pair && contrast.reference.metric == metric) return &contrast;
  }
  return nullptr;
}

// Whether the configuration with the most memory in use is faster than the one with the least.
std::optional<Paragraph> memory_worth(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  const study::ConfigurationResult* most = nullptr;
  const study::ConfigurationResult* least = nullptr;
  const auto used = [](const study::ConfigurationResult* configuration) {
    return find_summary(*configuration, "device_memory_mib")->max;
  };
  for (const study::ConfigurationResult& configuration : context.study.configurations) {
    if (find_summary(configuration, "device_memory_mib") == nullptr) continue;
    if (most == nullptr || used(&configuration) > used(most)) most = &configuration;
    if (least == nullptr || used(&configuration) < used(least)) least = &configuration;
  }
  if (most == nullptr || most == least) return std::nullopt;
  const Inline memory_most = {text(scribe.amount("device_memory_mib", used(most)))};
  const Inline memory_least = {text(scribe.amount("device_memory_mib", used(least)))};
  const Inline name_most = configuration_link(context.study, most->name);
  const Inline name_least = configuration_link(context.study, least->name);
  const study::Contrast* contrast =
      find_contrast(context.study, "output_tokens_per_s", most->name, least->name);
  if (contrast == nullptr) {
    return Paragraph{
        scribe.compose(Phrase::kMemoryNoContrast, {name_most, memory_most, name_least, memory_least})};
  }
  const Inline effect = scribe.effect(contrast->reference, seen_from(*contrast, most->name));
  const auto side = shown_side(*contrast);
  const bool most_is_a = contrast->a == most->name;
  const Phrase phrase = !side                                   ? Phrase::kMemoryUndecided
                        : (*side == Side::kHigher) == most_is_a ? Phrase::kMemoryFaster
                                                                : Phrase::kMemorySlower;
  return Paragraph{scribe.compose(phrase, {name_most, memory_most, name_least, memory_least, effect})};
}

// Energy, power and throttling, as far as any configuration has them.
std::optional<Table> gpu_table(const ReportContext& context) {
  std::vector<std::string> metrics;
  for (const study::MetricInfo& metric : study::metric_table()) {
    if (metric.of_gpu && is_reported(context.study, metric)) metrics.emplace_back(metric.name);
  }
  if (metrics.empty()) return std::nullopt;
  Table table = metric_columns(context, metrics);
  table.caption = context.scribe.say(Phrase::kCaptionGpu);
  return table;
}

Section throughput_and_memory(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"throughput-memory", scribe.say(Phrase::kSectionThroughputMemory), {}, {}};
  section.blocks.push_back(
      metric_columns(context, {"output_tokens_per_s", "request_throughput", "device_memory_mib",
                               "device_memory_share", "server_resident_mib"}));
  if (auto gpu = gpu_table(context)) section.blocks.push_back(std::move(*gpu));
  if (auto worth = memory_worth(context)) section.blocks.push_back(std::move(*worth));
  add_figure(section.blocks, load_figure(context));
  add_figure(section.blocks, memory_figure(context));
  return section;
}

// --- Acceleration and complexity.

// The one setting in which two configurations differ; nothing when there are more or none.
std::optional<std::string> only_difference(const ReportContext& context, const study::ConfigurationResult& a,
                                           const study::ConfigurationResult& b) {
  const auto left = stated_settings(context.study, a);
  const auto right = stated_settings(context.study, b);
  std::vector<std::string> differing;
  for (const auto& [name, value] : left) {
    const auto other = right.find(name);
    if (other == right.end() || other->second != value) differing.push_back(name);
  }
  for (const auto& [name, value] : right) {
    if (!left.contains(name)) differing.push_back(name);
  }
  return differing.size() == 1 ? std::optional(differing.front()) : std::nullopt;
}

// A row for every contrast of the pair, once per metric.
void add_isolated_effects(const ReportContext& context, const std::string& feature, const std::string& on,
                          const std::string& off, Table& table) {
  const Scribe& scribe = context.scribe;
  std::vector<study::MetricReference> seen;
  for (const study::Contrast& contrast : context.study.contrasts) {
    const bool pair = (contrast.a == on && contrast.b == off) || (contrast.a == off && contrast.b == on);
    const bool known = std::find(seen.begin(), seen.end(), contrast.reference) != seen.end();
    if (!pair || known || is_secondary_metric(contrast.reference.metric)) continue;
    seen.push_back(contrast.reference);
    table.rows.push_back({{{code(feature)}},
                          {{code(on)}},
                          {{code(off)}},
                          {{text(scribe.reference_label(contrast.reference))}},
                          {scribe.effect(contrast.reference, seen_from(contrast, on))},
                          conclusion_cell(scribe, contrast)});
  }
}

// What each optional feature does, from pairs of configurations that differ in it alone.
void feature_effects(const ReportContext& context, std::vector<Block>& blocks) {
  const Scribe& scribe = context.scribe;
  const auto& configurations = context.study.configurations;
  Table table;
  table.caption = scribe.say(Phrase::kCaptionIsolated);
  table.columns = {
      {scribe.say(Phrase::kSetting)},
      {scribe.say(Phrase::kFeatureOn)},
      {scribe.say(Phrase::kFeatureOff)},
      {scribe.say(Phrase::kMetric)},
      {scribe.say(Phrase::kEffect) + " [" + scribe.say(Phrase::kInterval95) + "]", Align::kRight},
      {scribe.say(Phrase::kConclusion)}};
  List missing;
  for (const std::string feature : {"enable-prefix-caching", "enable-chunked-prefill"}) {
    const size_t before = table.rows.size();
    for (size_t i = 0; i < configurations.size(); ++i) {
      for (size_t k = i + 1; k < configurations.size(); ++k) {
        if (only_difference(context, configurations[i], configurations[k]) != feature) continue;
        const bool first_on = setting(configurations[i], feature)->value == "true";
        add_isolated_effects(context, feature, configurations[first_on ? i : k].name,
                             configurations[first_on ? k : i].name, table);
      }
    }
    if (table.rows.size() == before) {
      missing.items.push_back({Mark::kRemark, scribe.compose(Phrase::kNotIsolated, {{code(feature)}})});
    }
  }
  if (!table.rows.empty()) blocks.push_back(std::move(table));
  if (!missing.items.empty()) blocks.push_back(std::move(missing));
}

Section acceleration_and_complexity(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"acceleration-complexity", scribe.say(Phrase::kSectionAccelerationComplexity), {}, {}};
  Table table =
      metric_columns(context, {"acceleration", "ttft_hit_ms", "ttft_repeat_ms", "cached_prompt_share"});
  table.columns.insert(table.columns.begin() + 1, {scribe.say(Phrase::kFeaturesOnHeader), Align::kRight});
  for (size_t i = 0; i < table.rows.size(); ++i) {
    table.rows[i].insert(table.rows[i].begin() + 1,
                         Cell{{text(scribe.numbers().integer(context.study.configurations[i].features_on))}});
  }
  section.blocks.push_back(std::move(table));
  section.blocks.push_back(Paragraph{{text(scribe.say(Phrase::kAccelerationWarning))}});
  feature_effects(context, section.blocks);
  return section;
}

}  // namespace

Section build_tradeoffs(const ReportContext& context) {
  Section section{"tradeoffs", context.scribe.say(Phrase::kSectionTradeoffs), {}, {}};
  if (context.study.configurations.empty()) {
    section.blocks.push_back(Paragraph{{text(context.scribe.say(Phrase::kNothingMeasured))}});
    return section;
  }
  section.children = {latency_and_stability(context), throughput_and_memory(context),
                      acceleration_and_complexity(context)};
  return section;
}

}  // namespace crible::report
