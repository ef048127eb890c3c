// Service levels, objectives and their constraints.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "config/field_table.h"
#include "study/record/metrics.h"
#include "study/record/spec_parser.h"

namespace crible::study {
namespace {

constexpr std::array<std::string_view, 5> kServiceMetrics = {"ttft_ms", "ttfo_ms", "tpot_ms",
                                                             "itl_ms", "e2el_ms"};
constexpr std::array<std::string_view, 3> kObjectiveKeys = {"minimise", "maximise", "subject_to"};
constexpr std::array<std::string_view, 7> kStatistics = {"p50", "p90", "p95", "p99",
                                                         "mean", "min", "max"};

std::vector<std::string_view> metric_names() {
  std::vector<std::string_view> names;
  for (const MetricInfo& metric : metric_table()) names.push_back(metric.name);
  return names;
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// "<= 0.01" or ">= 12".
bool read_bound(std::string_view text, ConstraintSpec& constraint) {
  text = trim(text);
  if (!text.starts_with("<=") && !text.starts_with(">=")) return false;
  constraint.relation = text[0] == '<' ? Relation::kAtMost : Relation::kAtLeast;
  text = trim(text.substr(2));
  const auto [end, code] =
      std::from_chars(text.data(), text.data() + text.size(), constraint.bound);
  return code == std::errc() && end == text.data() + text.size() && std::isfinite(constraint.bound);
}

}  // namespace

Status SpecParser::parse_service_levels(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "service_levels"));
  for (const Entry& entry : entries) {
    if (std::ranges::find(kServiceMetrics, entry.key) == kServiceMetrics.end()) {
      return reader_.unknown_key(entry, "service_levels", kServiceMetrics);
    }
    CRIBLE_TRY(const double at_most, reader_.number(entry.value, entry.key, 0, 1e9));
    spec_.service_levels.push_back({entry.key, at_most});
  }
  return {};
}

Status SpecParser::parse_objectives(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "objectives"));
  if (entries.empty()) {
    return reader_.error(node, "the study has no objective: name a use case and what to minimise or "
                               "maximise for it");
  }
  for (const Entry& entry : entries) CRIBLE_RETURN_IF_ERROR(parse_objective(entry));
  return {};
}

Status SpecParser::parse_objective(const Entry& entry) {
  const std::string what = fmt::format("the objective {}", entry.key);
  if (!is_plain_name(entry.key)) {
    return reader_.error(entry.key_node, fmt::format("the use case '{}' must be named with letters, "
                                                     "digits and _ - . only",
                                                     entry.key));
  }
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(entry.value, what));
  ObjectiveSpec objective;
  objective.name = entry.key;
  bool stated = false;
  for (const Entry& part : entries) {
    if (part.key == "subject_to") {
      CRIBLE_RETURN_IF_ERROR(parse_constraints(part.value, objective));
    } else if (part.key == "minimise" || part.key == "maximise") {
      if (stated) return reader_.error(part.key_node, what + " can optimise one metric only");
      stated = true;
      objective.sense = part.key == "minimise" ? Sense::kMinimise : Sense::kMaximise;
      CRIBLE_TRY(const std::string text, reader_.text(part.value, part.key));
      CRIBLE_TRY(objective.reference, read_reference(part.value, text));
      const MetricInfo* metric = find_metric(objective.reference.metric);
      if ((metric->direction == Direction::kLowerIsBetter) != (objective.sense == Sense::kMinimise)) {
        return reader_.error(part.value,
                             fmt::format("{} is better when {}, so it must be {}d", metric->name,
                                         objective.sense == Sense::kMinimise ? "higher" : "lower",
                                         objective.sense == Sense::kMinimise ? "maximise" : "minimise"));
      }
    } else {
      return reader_.unknown_key(part, what, kObjectiveKeys);
    }
  }
  if (!stated) return reader_.error(entry.key_node, what + " needs 'minimise' or 'maximise'");
  spec_.objectives.push_back(std::move(objective));
  return {};
}

Result<MetricReference> SpecParser::read_reference(const YAML::Node& node,
                                                   const std::string& text) const {
  MetricReference reference;
  std::string rest = text;
  if (const size_t slash = rest.find('/'); slash != std::string::npos) {
    reference.scenario = rest.substr(0, slash);
    rest = rest.substr(slash + 1);
  }
  if (const size_t dot = rest.find('.'); dot != std::string::npos) {
    reference.statistic = rest.substr(dot + 1);
    rest = rest.substr(0, dot);
  }
  reference.metric = rest;
  const MetricInfo* metric = find_metric(reference.metric);
  if (metric == nullptr) {
    const std::vector<std::string_view> known = metric_names();
    return reader_.error(node, fmt::format("unknown metric '{}'{}; known: {}", reference.metric,
                                           suggest(reference.metric, known), fmt::join(known, ", ")));
  }
  if (reference.statistic.empty()) reference.statistic = metric->default_statistic;
  if (!is_statistic(reference.statistic)) {
    return reader_.error(node, fmt::format("unknown statistic '{}'{}; known: {}", reference.statistic,
                                           suggest(reference.statistic, kStatistics),
                                           fmt::join(kStatistics, ", ")));
  }
  if (metric->scale == MetricScale::kProportion && reference.statistic != "mean") {
    return reader_.error(node, fmt::format("{} is a rate over all requests: it has no {}",
                                           metric->name, reference.statistic));
  }
  const std::optional<std::string> home = home_scenario(*metric, spec_.scenarios);
  if (!home) {
    return reader_.error(node, fmt::format("{} comes from {}, and the study runs none of them",
                                           metric->name, fmt::join(metric->scenarios, ", ")));
  }
  if (reference.scenario.empty()) {
    reference.scenario = *home;
    return reference;
  }
  const bool runs = std::ranges::find(spec_.scenarios, reference.scenario, &ScenarioSpec::name) !=
                    spec_.scenarios.end();
  if (!runs) {
    return reader_.error(node, fmt::format("the study does not run the scenario '{}'",
                                           reference.scenario));
  }
  const bool measures = metric->scenarios.empty() ||
                        std::ranges::find(metric->scenarios, reference.scenario) !=
                            metric->scenarios.end();
  if (!measures) {
    return reader_.error(node, fmt::format("{} does not measure {}, which comes from {}",
                                           reference.scenario, metric->name,
                                           fmt::join(metric->scenarios, ", ")));
  }
  return reference;
}

Status SpecParser::parse_constraints(const YAML::Node& node, ObjectiveSpec& objective) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "subject_to"));
  for (const Entry& entry : entries) {
    ConstraintSpec constraint;
    CRIBLE_TRY(constraint.reference, read_reference(entry.key_node, entry.key));
    CRIBLE_TRY(const std::string text, reader_.text(entry.value, entry.key));
    if (!read_bound(text, constraint)) {
      return reader_.error(entry.value, fmt::format("the constraint on {} is '{}', but must be like "
                                                    "\"<= 0.01\" or \">= 12\"",
                                                    entry.key, text));
    }
    objective.constraints.push_back(std::move(constraint));
  }
  return {};
}

}  // namespace crible::study
