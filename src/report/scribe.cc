#include "report/scribe.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "report/metric_wording.h"
#include "study/record/metrics.h"

namespace crible::report {
namespace {

// Calls on_text for each run of plain words and on_argument for each {N}.
template <typename OnText, typename OnArgument>
void walk(std::string_view pattern, OnText on_text, OnArgument on_argument) {
  while (!pattern.empty()) {
    const size_t open = pattern.find('{');
    if (open == std::string_view::npos || open + 2 >= pattern.size() || pattern[open + 2] != '}') {
      on_text(pattern);
      return;
    }
    if (open > 0) on_text(pattern.substr(0, open));
    on_argument(static_cast<size_t>(pattern[open + 1] - '0'));
    pattern.remove_prefix(open + 3);
  }
}

bool is_percentage(const std::string& metric) {
  const study::MetricInfo* info = study::find_metric(metric);
  return (info != nullptr && info->scale == study::MetricScale::kProportion) || metric.ends_with("_share");
}

bool is_factor(const std::string& metric) {
  return metric == "acceleration";
}

// "b3/balanced/kv_cache" -> block 3 and "balanced/kv_cache"; nothing for another shape.
std::optional<std::pair<int, std::string>> split_trial_id(const std::string& id) {
  const size_t slash = id.find('/');
  if (slash == std::string::npos || slash < 2 || slash > 7 || id[0] != 'b') return std::nullopt;
  const std::string digits = id.substr(1, slash - 1);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::pair(std::stoi(digits), id.substr(slash + 1));
}

std::string block_ranges(std::vector<int> blocks) {
  std::sort(blocks.begin(), blocks.end());
  std::string ranges;
  for (size_t i = 0; i < blocks.size();) {
    size_t end = i;
    while (end + 1 < blocks.size() && blocks[end + 1] <= blocks[end] + 1) ++end;
    if (!ranges.empty()) ranges += ",";
    ranges += end == i ? fmt::format("b{}", blocks[i]) : fmt::format("b{}\u2013b{}", blocks[i], blocks[end]);
    i = end + 1;
  }
  return ranges;
}

}  // namespace

std::string Scribe::say(Phrase phrase, std::initializer_list<std::string> arguments) const {
  const std::vector<std::string> values(arguments);
  std::string words;
  walk(
      phrase_text(phrase, language_), [&](std::string_view plain) { words += plain; },
      [&](size_t index) {
        if (index < values.size()) words += values[index];
      });
  return words;
}

Inline Scribe::compose(Phrase phrase, std::initializer_list<Inline> arguments) const {
  const std::vector<Inline> values(arguments);
  Inline content;
  walk(
      phrase_text(phrase, language_),
      [&](std::string_view plain) { content.push_back(text(std::string(plain))); },
      [&](size_t index) {
        if (index < values.size()) append(content, values[index]);
      });
  return content;
}

std::string Scribe::metric_label(const std::string& metric) const {
  return metric_label_words(metric, language_);
}

std::string Scribe::metric_unit(const std::string& metric) const {
  const study::MetricInfo* info = study::find_metric(metric);
  const std::string unit(info == nullptr ? "" : info->unit);
  if (language_ == Language::kEnglish) return unit;
  static const std::map<std::string, std::string> kFrenchUnits = {
      {"tokens/s", "jetons/s"}, {"requests/s", "requêtes/s"}, {"%/request", "%/requête"}, {"MiB", "Mio"}, {"J/token", "J/jeton"}};
  const auto found = kFrenchUnits.find(unit);
  return found == kFrenchUnits.end() ? unit : found->second;
}

std::string Scribe::metric_column(const std::string& metric) const {
  const std::string label = metric_label(metric);
  const std::string unit = metric_unit(metric);
  // "Output tokens/s" says its unit itself.
  return unit.empty() || label.ends_with("/s") ? label : label + ", " + unit;
}

std::string Scribe::objective_label(const std::string& objective) const {
  return objective_words(objective, language_);
}

std::string Scribe::statistic_label(const std::string& statistic) const {
  if (statistic == "mean") return say(Phrase::kMean);
  if (statistic == "min") return say(Phrase::kMinimum);
  if (statistic == "max") return say(Phrase::kMaximum);
  return statistic;
}

std::string Scribe::reference_label(const study::MetricReference& reference) const {
  std::string label = metric_label(reference.metric);
  if (!reference.statistic.empty()) label += ", " + statistic_label(reference.statistic);
  if (!reference.scenario.empty()) label += " (" + reference.scenario + ")";
  return label;
}

std::string Scribe::status_label(study::ConfigurationStatus status) const {
  switch (status) {
    case study::ConfigurationStatus::kMeasured: return say(Phrase::kStatusMeasured);
    case study::ConfigurationStatus::kPartial: return say(Phrase::kStatusPartial);
    case study::ConfigurationStatus::kFailed: return say(Phrase::kStatusFailed);
    case study::ConfigurationStatus::kNotRun: return say(Phrase::kStatusNotRun);
  }
  return "";
}

std::string Scribe::cause_label(study::FailureCause cause) const {
  switch (cause) {
    case study::FailureCause::kBadFlag: return say(Phrase::kCauseBadFlag);
    case study::FailureCause::kBadModel: return say(Phrase::kCauseBadModel);
    case study::FailureCause::kOutOfMemory: return say(Phrase::kCauseOutOfMemory);
    case study::FailureCause::kCrash: return say(Phrase::kCauseCrash);
    case study::FailureCause::kHang: return say(Phrase::kCauseHang);
    case study::FailureCause::kTimeout: return say(Phrase::kCauseTimeout);
    case study::FailureCause::kAuth: return say(Phrase::kCauseAuth);
    case study::FailureCause::kQuality: return say(Phrase::kCauseQuality);
    case study::FailureCause::kEffectiveMismatch: return say(Phrase::kCauseEffectiveMismatch);
    case study::FailureCause::kUnknown: return say(Phrase::kCauseUnknown);
  }
  return "";
}

std::string Scribe::phase_label(study::StudyPhase phase) const {
  switch (phase) {
    case study::StudyPhase::kPreflight: return say(Phrase::kPhasePreflight);
    case study::StudyPhase::kBoot: return say(Phrase::kPhaseBoot);
    case study::StudyPhase::kAssertEffective: return say(Phrase::kPhaseAssertEffective);
    case study::StudyPhase::kWarmUp: return say(Phrase::kPhaseWarmUp);
    case study::StudyPhase::kGate: return say(Phrase::kPhaseGate);
    case study::StudyPhase::kMeasure: return say(Phrase::kPhaseMeasure);
    case study::StudyPhase::kShutdown: return say(Phrase::kPhaseShutdown);
  }
  return "";
}

std::string Scribe::yes_no(const std::optional<std::string>& setting) const {
  if (!setting) return kNotMeasured;
  if (*setting == "true") return "\u2713";
  if (*setting == "false") return "\u2717";
  return *setting;
}

std::string Scribe::bare_amount(const std::string& metric, double value) const {
  if (is_percentage(metric)) return numbers_.percent(value);
  if (is_factor(metric)) return numbers_.factor(value);
  return numbers_.significant(value);
}

std::string Scribe::amount(const std::string& metric, double value) const {
  return numbers_.with_unit(bare_amount(metric, value), metric_unit(metric));
}

std::string Scribe::amount(const std::string& metric, std::optional<double> value) const {
  return value ? amount(metric, *value) : kNotMeasured;
}

std::string Scribe::bare_range(const std::string& metric, const study::Interval& interval) const {
  return numbers_.range(bare_amount(metric, interval.low), bare_amount(metric, interval.high));
}

Inline Scribe::estimate(const std::string& metric, const study::MetricSummary* summary,
                        bool with_unit) const {
  if (summary == nullptr) return {noted(detail(kNotMeasured), say(Phrase::kNotMeasuredNote))};
  const std::string value = with_unit ? amount(metric, summary->p50) : bare_amount(metric, summary->p50);
  const std::string note = source_note(*summary);
  Inline content = {noted(text(value), note)};
  if (summary->ci95) content.push_back(noted(detail(" " + bare_range(metric, *summary->ci95)), note));
  return content;
}

Inline Scribe::effect(const study::MetricReference& reference, const Comparison& comparison) const {
  const bool ratio = comparison.kind == study::EffectKind::kRatio;
  const bool points = !ratio && is_percentage(reference.metric);  // a difference of two percentages
  const auto words = [&](double value) {
    // A change of 100% and more reads better as a factor; its interval then does too.
    if (ratio) return comparison.effect >= 2 ? numbers_.factor(value) : numbers_.change(value);
    if (points) return (value > 0 ? "+" : "") + numbers_.fixed(value * 100, 1);
    return (value > 0 ? "+" : "") + bare_amount(reference.metric, value);
  };
  std::string value = words(comparison.effect);
  if (!ratio) value = numbers_.with_unit(value, points ? "points" : metric_unit(reference.metric));
  Inline content = {text(value)};
  if (comparison.interval) {
    content.push_back(
        detail(" " + numbers_.range(words(comparison.interval->low), words(comparison.interval->high))));
  }
  return content;
}

std::string Scribe::source_note(const study::MetricSummary& summary) const {
  return say(Phrase::kSourceNote, {numbers_.integer(summary.n), trial_ranges(summary.trial_ids),
                                   numbers_.integer(static_cast<int64_t>(summary.trial_ids.size()))});
}

std::string Scribe::trial_ranges(std::span<const std::string> trial_ids) const {
  std::vector<std::pair<std::string, std::vector<int>>> by_visit;  // "NAME/SCENARIO" -> blocks
  std::string others;
  for (const std::string& id : trial_ids) {
    const auto parts = split_trial_id(id);
    if (!parts) {
      others += (others.empty() ? "" : ", ") + id;
      continue;
    }
    auto found = std::find_if(by_visit.begin(), by_visit.end(),
                              [&](const auto& entry) { return entry.first == parts->second; });
    if (found == by_visit.end()) found = by_visit.insert(by_visit.end(), {parts->second, {}});
    found->second.push_back(parts->first);
  }
  // Scenarios with the same blocks of the same configuration share one entry.
  std::vector<std::pair<std::string, std::string>> entries;  // "b0-b4/NAME/" -> scenarios
  for (const auto& [visit, blocks] : by_visit) {
    const size_t slash = visit.find('/') == std::string::npos ? visit.size() : visit.find('/') + 1;
    const std::string start = block_ranges(blocks) + "/" + visit.substr(0, slash);
    auto found =
        std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == start; });
    if (found == entries.end()) {
      entries.emplace_back(start, visit.substr(slash));
    } else {
      found->second += "+" + visit.substr(slash);
    }
  }
  std::string ranges;
  for (const auto& [start, scenarios] : entries) ranges += (ranges.empty() ? "" : ", ") + start + scenarios;
  if (!others.empty()) ranges += (ranges.empty() ? "" : ", ") + others;
  return ranges.empty() ? kNotMeasured : ranges;
}

Inline Scribe::enumerate(const std::vector<Inline>& items) const {
  Inline content;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) content.push_back(text(i + 1 == items.size() ? say(Phrase::kAnd) : ", "));
    append(content, items[i]);
  }
  return content;
}

Inline code_list(const Scribe& scribe, const std::vector<std::string>& names) {
  std::vector<Inline> items;
  for (const std::string& name : names) items.push_back({code(name)});
  return scribe.enumerate(items);
}

}  // namespace crible::report
