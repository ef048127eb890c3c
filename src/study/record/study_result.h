// Everything that a report says, computed from a store alone: analyse() is a pure function, so a
// report made twice, on any machine, is the same. Values only; wording belongs to the report room.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "study/record/metrics.h"
#include "study/record/spec.h"
#include "study/record/store.h"
#include "study/record/verdict.h"

namespace crible::study {

// One metric of one configuration in one scenario (or over all of them).
struct MetricSummary {
  std::string scenario;  // empty: over every scenario
  double p50 = 0;        // of the pooled samples
  std::optional<double> p90;
  std::optional<double> p99;    // absent when the sample does not support it
  std::optional<Interval> ci95; // of the p50, from the variation between blocks
  int64_t n = 0;                // samples
  double mean = 0;
  double min = 0;
  double max = 0;
  std::vector<int> blocks;            // that have a value
  std::vector<double> block_values;   // the default statistic in each of `blocks`
  std::vector<std::string> trial_ids; // where the samples come from
};

// One point of the load curve (scenario concurrency).
struct LoadPoint {
  int level = 0;
  double output_tokens_per_s = 0;  // median over blocks
  double requests_per_s = 0;
  std::optional<double> ttft_p50_ms;
  std::optional<double> itl_p50_ms;
  std::optional<double> e2el_p50_ms;
  int64_t requests = 0;
  int64_t failed_requests = 0;
};

enum class ConfigurationStatus { kMeasured, kPartial, kFailed, kNotRun };

struct ConfigurationResult {
  std::string name;
  Knobs requested;               // as the spec states (base and own)
  std::string requested_json;    // typed JSON object of the same
  std::string resolved_json;     // "{}" when no server came up
  std::string effective_json;    // of the last launch
  std::vector<AdjustmentRecord> adjustments;
  std::vector<std::string> command_line;
  ConfigurationStatus status = ConfigurationStatus::kNotRun;
  int features_on = 0;  // optional features in effect: the measure of simplicity
  int trials_planned = 0;
  int trials_done = 0;
  int trials_invalid = 0;
  std::optional<double> boot_ms;         // median over launches
  std::optional<double> reconfigure_ms;
  // Metric name -> its home scenario's summary; every metric of the table has an entry.
  std::map<std::string, std::optional<MetricSummary>> metrics;
  // Scenario -> metric name -> summary, only what was measured.
  std::map<std::string, std::map<std::string, MetricSummary>> by_scenario;
  std::vector<LoadPoint> load_curve;  // by level
};

struct Artifact {
  std::string kind;  // "store", "server_log"
  std::string path;
  std::string configuration;  // empty for the study's own
};

struct StudyResult {
  StudySpec spec;
  MachineRecord machine;
  ModelRecord model;
  std::vector<StudyEvent> events;
  std::string started_wall_time;
  std::string ended_wall_time;
  bool complete = false;  // every planned trial is there
  int trials_planned = 0;
  int trials_done = 0;
  int64_t requests = 0;
  double measured_s = 0;  // sum of trial durations
  std::vector<ConfigurationResult> configurations;  // in the order of the spec
  std::vector<Contrast> contrasts;
  std::vector<ConstraintResult> constraints;
  std::vector<Verdict> verdicts;  // in the order of the spec's objectives
  std::vector<FailureRecord> failures;
  std::vector<TrialRecord> invalid_trials;  // without their requests
  std::vector<Artifact> artifacts;
};

// Fails only if the stored spec no longer parses.
Result<StudyResult> analyse(const StoredStudy& study);

const char* to_string(ConfigurationStatus status);

}  // namespace crible::study
