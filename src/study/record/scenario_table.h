// The scenarios that a study can run, and the parameters of each: name, default, range, help. The
// spec is checked against this table; study/run reads the filled-in values.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace crible::study {

struct ScenarioParameter {
  std::string_view name;
  std::vector<double> defaults;  // one value, or several for a list
  bool is_list = false;
  bool is_integer = true;
  double minimum = 0;
  double maximum = 0;
  std::string_view help;
};

struct ScenarioInfo {
  std::string_view name;
  std::vector<ScenarioParameter> parameters;
  std::string_view help;
};

std::span<const ScenarioInfo> scenario_table();
const ScenarioInfo* find_scenario(std::string_view name);  // nullptr when unknown

}  // namespace crible::study
