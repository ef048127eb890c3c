// What the measurements allow to be said of a configuration. The one place that decides whether a
// difference may be worded: only when it is decided and every interval of it excludes
// "no difference". No words here: the sections make sentences of these values.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "study/record/study_result.h"

namespace crible::report {

enum class Side { kLower, kHigher };

// One decided contrast, seen from one of its two configurations.
struct Finding {
  int contrast = 0;  // index in StudyResult::contrasts
  std::string rival;
  Side side = Side::kLower;  // this configuration's value against the rival's
  bool better = false;
  study::EffectKind kind = study::EffectKind::kRatio;
  double effect = 1;  // this / rival, or this - rival
  study::Interval interval;
};

// Findings on one metric in one direction, strongest first.
struct FindingGroup {
  study::MetricReference reference;
  bool better = false;
  Side side = Side::kLower;
  std::vector<Finding> findings;
};

// A contrast seen from one of its two configurations, decided or not.
struct Comparison {
  study::EffectKind kind = study::EffectKind::kRatio;
  double effect = 1;  // this / rival, or this - rival
  std::optional<study::Interval> interval;
};
Comparison seen_from(const study::Contrast& contrast, const std::string& configuration);

// The side on which contrast.a lies, when the contrast shows one.
std::optional<Side> shown_side(const study::Contrast& contrast);

std::vector<FindingGroup> findings_for(const study::StudyResult& study, const std::string& configuration);

// Rivals within the equivalence margin, by metric, in the order of the contrasts.
struct Equivalence {
  study::MetricReference reference;
  std::vector<std::string> rivals;
};
std::vector<Equivalence> equivalences_for(const study::StudyResult& study, const std::string& configuration);

const study::ConfigurationResult* find_configuration(const study::StudyResult& study,
                                                     const std::string& name);
// The summary in the configuration's home scenario; nullptr when not measured.
const study::MetricSummary* find_summary(const study::ConfigurationResult& configuration,
                                         const std::string& metric);
// The summary that a reference points at; nullptr when not measured.
const study::MetricSummary* find_summary(const study::ConfigurationResult& configuration,
                                         const study::MetricReference& reference);
// The reference's statistic of a summary; nothing when the sample does not support it.
std::optional<double> statistic_of(const study::MetricSummary& summary, const std::string& statistic);

// Metrics of GPUs stand in the report only where some configuration has a value; the others always do.
bool is_reported(const study::StudyResult& study, const study::MetricInfo& metric);

bool has_scenario(const study::StudyResult& study, const std::string& name);

// Metrics that restate another one, or whose ratio flatters a slow MISS: they stand in the tables
// and in the annex of comparisons, but make no sentence of their own.
bool is_secondary_metric(const std::string& metric);

// The verdict that decides for production: the use case whose name says so, else the first.
const study::Verdict* production_verdict(const study::StudyResult& study);

}  // namespace crible::report
