// The declaration of a study, parsed from YAML. Everything is checked here, so that what runs is
// what was written: an unknown key, a value out of range, two equal configurations or an objective
// on an unknown metric is an error with line, column, and the nearest valid word.
// Nothing here opens a file, except load_spec, or starts anything.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "study/record/trial.h"

namespace crible::study {

enum class TargetEngine { kCrible, kUrl };

struct TargetSpec {
  TargetEngine engine = TargetEngine::kCrible;
  std::string model;                   // crible: path, relative to the working folder; url: served name
  std::string url;                     // url only: "http://host:port"
  std::string api_key_env;             // name of the variable that holds the key; empty: no key
  std::vector<std::string> arguments;  // crible: further words of the command line
};

struct ConfigurationSpec {
  std::string name;
  Knobs knobs;  // base, overridden by the configuration's own
  Knobs own;    // only what the configuration (or its axes) states
  std::string url;  // target url only: its own server, or the target's
};

// Parameters carry every value, defaults filled in (scenario_table.h). A scalar is a list of one.
struct ScenarioSpec {
  std::string name;
  std::map<std::string, std::vector<double>> parameters;

  // The parameter must exist in the scenario's table: a CHECK otherwise.
  double number(const std::string& parameter) const;
  int integer(const std::string& parameter) const;
  std::vector<int> integers(const std::string& parameter) const;
};

enum class Sense { kMinimise, kMaximise };
enum class Relation { kAtMost, kAtLeast };

// "[scenario/]metric[.statistic]". An empty scenario means the metric's home scenario, or every
// scenario for a metric that has none (error_rate, memory).
struct MetricReference {
  std::string scenario;
  std::string metric;
  std::string statistic;  // p50 p90 p95 p99 mean min max; never empty after parsing

  std::string text() const;  // "kv_cache/ttft_hit_ms.p50"
  auto operator<=>(const MetricReference&) const = default;
};

struct ConstraintSpec {
  MetricReference reference;
  Relation relation = Relation::kAtMost;
  double bound = 0;
};

// One use case: what to optimise, under which conditions.
struct ObjectiveSpec {
  std::string name;  // the use case: "conversational_agents"
  Sense sense = Sense::kMinimise;
  MetricReference reference;
  std::vector<ConstraintSpec> constraints;
};

// A request counts towards goodput when it meets every level.
struct ServiceLevel {
  std::string metric;  // ttft_ms, ttfo_ms, tpot_ms, itl_ms (worst gap) or e2el_ms
  double at_most = 0;
};

struct StudySpec {
  std::string name;
  std::string language = "en";  // of the report: en or fr
  TargetSpec target;
  Knobs base;
  std::vector<ConfigurationSpec> configurations;  // named ones first, then the axes' product
  std::vector<ScenarioSpec> scenarios;
  int blocks = 5;
  uint64_t seed = 1;
  std::optional<double> time_budget_s;
  std::vector<ServiceLevel> service_levels;
  std::vector<ObjectiveSpec> objectives;
  double equivalence_margin = 0.05;  // relative: differences below it do not matter
  std::string source_text;           // the YAML, byte for byte
};

// source_name stands in error messages ("agents.yaml:12:3: ...").
Result<StudySpec> parse_spec(const std::string& yaml, const std::string& source_name);
Result<StudySpec> load_spec(const std::filesystem::path& path);

}  // namespace crible::study
