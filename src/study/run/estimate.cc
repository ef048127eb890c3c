#include "study/run/estimate.h"

#include <algorithm>
#include <cmath>

#include "study/record/scenario_table.h"
#include "study/run/scenario/scenario.h"

namespace crible::study {
namespace {

constexpr double kSmallestScale = 0.01;
constexpr double kScaleStep = 0.97;

double trials_s(const StudySpec& spec, const Plan& plan, const std::vector<ScenarioSpec>& scenarios,
                const Speeds& speeds) {
  double block_s = 0;
  for (const ScenarioSpec& scenario : scenarios) block_s += estimate_trial_s(scenario, speeds);
  return block_s * spec.blocks * static_cast<double>(spec.configurations.size()) +
         kVisitOverheadS * static_cast<double>(plan.visits.size());
}

}  // namespace

double estimate_trial_s(const ScenarioSpec& scenario, const Speeds& speeds) {
  if (speeds.prefill_tokens_per_s <= 0 || speeds.decode_tokens_per_s <= 0) return 0;
  const ScenarioWork work = scenario_named(scenario.name).work(scenario);
  return work.prompt_tokens / speeds.prefill_tokens_per_s + work.decode_steps / speeds.decode_tokens_per_s +
         work.pause_s;
}

double estimate_study_s(const StudySpec& spec, const Plan& plan, const Speeds& speeds) {
  return trials_s(spec, plan, spec.scenarios, speeds);
}

std::vector<ScenarioSpec> scaled_scenarios(const StudySpec& spec, double scale) {
  std::vector<ScenarioSpec> scenarios = spec.scenarios;
  for (ScenarioSpec& scenario : scenarios) {
    const std::string_view repeats = scenario_named(scenario.name).repeats;
    const auto& parameters = find_scenario(scenario.name)->parameters;
    const auto rule = std::ranges::find(parameters, repeats, &ScenarioParameter::name);
    for (double& value : scenario.parameters.at(std::string(repeats))) {
      value = std::min(value, std::max(rule->minimum, std::floor(value * scale)));
    }
  }
  return scenarios;
}

double scale_for_budget(const StudySpec& spec, const Plan& plan, const Speeds& speeds, double budget_s) {
  double scale = 1;
  while (scale > kSmallestScale && trials_s(spec, plan, scaled_scenarios(spec, scale), speeds) > budget_s) {
    scale *= kScaleStep;
  }
  return scale;
}

RemainingTime::RemainingTime(const std::vector<ScenarioSpec>& scenarios, const Speeds& speeds) {
  for (const ScenarioSpec& scenario : scenarios)
    estimates_[scenario.name] = estimate_trial_s(scenario, speeds);
}

void RemainingTime::learn(const std::string& configuration, const std::string& scenario, double seconds) {
  by_scenario_[scenario].add(seconds);
  by_pair_[{configuration, scenario}].add(seconds);
}

double RemainingTime::trial_s(const std::string& configuration, const std::string& scenario) const {
  if (const auto own = by_pair_.find({configuration, scenario}); own != by_pair_.end())
    return own->second.value();
  if (const auto any = by_scenario_.find(scenario); any != by_scenario_.end()) return any->second.value();
  const auto estimate = estimates_.find(scenario);
  return estimate == estimates_.end() ? 0 : estimate->second;
}

}  // namespace crible::study
