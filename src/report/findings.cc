#include "report/findings.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "study/record/metrics.h"

namespace crible::report {
namespace {

bool excludes(const study::Interval& interval, double none, Side side) {
  return side == Side::kLower ? interval.high < none : interval.low > none;
}

study::Interval seen_from_b(const study::Interval& interval, study::EffectKind kind) {
  if (kind == study::EffectKind::kDifference) return {-interval.high, -interval.low};
  return {1 / interval.high, 1 / interval.low};
}

Side opposite(Side side) {
  return side == Side::kLower ? Side::kHigher : Side::kLower;
}

// Distance from "no difference", comparable within one metric.
double strength(const Finding& finding) {
  return finding.kind == study::EffectKind::kRatio ? std::fabs(std::log(finding.effect))
                                                   : std::fabs(finding.effect);
}

FindingGroup& group_of(std::vector<FindingGroup>& groups, const study::MetricReference& reference,
                       bool better, Side side) {
  for (FindingGroup& group : groups) {
    if (group.reference == reference && group.better == better) return group;
  }
  groups.push_back({reference, better, side, {}});
  return groups.back();
}

}  // namespace

std::optional<Side> shown_side(const study::Contrast& contrast) {
  if (!contrast.decided || !contrast.ci95) return std::nullopt;
  const double none = contrast.kind == study::EffectKind::kRatio ? 1 : 0;
  for (const Side side : {Side::kLower, Side::kHigher}) {
    const bool effect_there = side == Side::kLower ? contrast.effect < none : contrast.effect > none;
    const bool simultaneous_there = !contrast.simultaneous || excludes(*contrast.simultaneous, none, side);
    if (effect_there && excludes(*contrast.ci95, none, side) && simultaneous_there) return side;
  }
  return std::nullopt;
}

Comparison seen_from(const study::Contrast& contrast, const std::string& configuration) {
  if (contrast.b != configuration) return {contrast.kind, contrast.effect, contrast.ci95};
  const bool ratio = contrast.kind == study::EffectKind::kRatio;
  Comparison inverted{contrast.kind, ratio ? 1 / contrast.effect : -contrast.effect, std::nullopt};
  if (contrast.ci95) inverted.interval = seen_from_b(*contrast.ci95, contrast.kind);
  return inverted;
}

std::vector<FindingGroup> findings_for(const study::StudyResult& study, const std::string& configuration) {
  std::vector<FindingGroup> groups;
  for (size_t i = 0; i < study.contrasts.size(); ++i) {
    const study::Contrast& contrast = study.contrasts[i];
    const bool is_a = contrast.a == configuration;
    if (!is_a && contrast.b != configuration) continue;
    const study::MetricInfo* metric = study::find_metric(contrast.reference.metric);
    const std::optional<Side> side_of_a = shown_side(contrast);
    if (metric == nullptr || !side_of_a) continue;
    Finding finding;
    finding.contrast = static_cast<int>(i);
    const Comparison comparison = seen_from(contrast, configuration);
    finding.kind = comparison.kind;
    finding.effect = comparison.effect;
    finding.interval = *comparison.interval;
    finding.rival = is_a ? contrast.b : contrast.a;
    finding.side = is_a ? *side_of_a : opposite(*side_of_a);
    finding.better =
        (finding.side == Side::kLower) == (metric->direction == study::Direction::kLowerIsBetter);
    // The same pair may be compared for several use cases: one finding of it is enough.
    FindingGroup& group = group_of(groups, contrast.reference, finding.better, finding.side);
    const bool known = std::any_of(group.findings.begin(), group.findings.end(),
                                   [&](const Finding& other) { return other.rival == finding.rival; });
    if (!known) group.findings.push_back(finding);
  }
  for (FindingGroup& group : groups) {
    std::stable_sort(group.findings.begin(), group.findings.end(),
                     [](const Finding& a, const Finding& b) { return strength(a) > strength(b); });
  }
  return groups;
}

std::vector<Equivalence> equivalences_for(const study::StudyResult& study, const std::string& configuration) {
  std::vector<Equivalence> all;
  for (const study::Contrast& contrast : study.contrasts) {
    const bool is_a = contrast.a == configuration;
    if ((!is_a && contrast.b != configuration) || !contrast.equivalent) continue;
    const std::string& rival = is_a ? contrast.b : contrast.a;
    auto found = std::find_if(all.begin(), all.end(), [&](const Equivalence& known) {
      return known.reference == contrast.reference;
    });
    if (found == all.end()) found = all.insert(all.end(), {contrast.reference, {}});
    if (std::find(found->rivals.begin(), found->rivals.end(), rival) == found->rivals.end()) {
      found->rivals.push_back(rival);
    }
  }
  return all;
}

const study::ConfigurationResult* find_configuration(const study::StudyResult& study,
                                                     const std::string& name) {
  for (const study::ConfigurationResult& configuration : study.configurations) {
    if (configuration.name == name) return &configuration;
  }
  return nullptr;
}

const study::MetricSummary* find_summary(const study::ConfigurationResult& configuration,
                                         const std::string& metric) {
  const auto found = configuration.metrics.find(metric);
  return found != configuration.metrics.end() && found->second ? &*found->second : nullptr;
}

const study::MetricSummary* find_summary(const study::ConfigurationResult& configuration,
                                         const study::MetricReference& reference) {
  const auto scenario = configuration.by_scenario.find(reference.scenario);
  if (scenario != configuration.by_scenario.end()) {
    const auto found = scenario->second.find(reference.metric);
    if (found != scenario->second.end()) return &found->second;
  }
  const study::MetricSummary* home = find_summary(configuration, reference.metric);
  const bool same = home != nullptr && (reference.scenario.empty() || home->scenario == reference.scenario);
  return same ? home : nullptr;
}

std::optional<double> statistic_of(const study::MetricSummary& summary, const std::string& statistic) {
  if (statistic == "p50") return summary.p50;
  if (statistic == "p90") return summary.p90;
  if (statistic == "p99") return summary.p99;
  if (statistic == "mean") return summary.mean;
  if (statistic == "min") return summary.min;
  if (statistic == "max") return summary.max;
  return std::nullopt;
}

bool is_reported(const study::StudyResult& study, const study::MetricInfo& metric) {
  return !metric.of_gpu ||
         std::any_of(study.configurations.begin(), study.configurations.end(), [&](const auto& configuration) {
           return find_summary(configuration, std::string(metric.name)) != nullptr;
         });
}

bool has_scenario(const study::StudyResult& study, const std::string& name) {
  return std::any_of(study.spec.scenarios.begin(), study.spec.scenarios.end(),
                     [&](const study::ScenarioSpec& scenario) { return scenario.name == name; });
}

bool is_secondary_metric(const std::string& metric) {
  static constexpr std::string_view kSecondary[] = {
      "ttft_from_send_ms",   "ttfo_ms",     "icl_ms",           "acceleration",   "request_throughput",
      "device_memory_share", "gpu_power_w", "gpu_power_peak_w", "gpu_memory_mib", "gpu_throttled_share"};
  return std::find(std::begin(kSecondary), std::end(kSecondary), metric) != std::end(kSecondary);
}

const study::Verdict* production_verdict(const study::StudyResult& study) {
  for (const study::Verdict& verdict : study.verdicts) {
    if (verdict.objective.find("production") != std::string::npos) return &verdict;
  }
  return study.verdicts.empty() ? nullptr : &study.verdicts.front();
}

}  // namespace crible::report
