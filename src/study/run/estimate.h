// How long will it take? From the speeds that the warm-up measured, and from trials as they end. A
// budget scales the repeats of every scenario by one factor, fixed before the first trial and recorded,
// so that all trials of a study are alike.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "study/record/plan.h"
#include "study/record/spec.h"

namespace crible::study {

struct Speeds {
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
};

// One trial of the scenario, if nothing is cached; 0 without speeds.
double estimate_trial_s(const ScenarioSpec& scenario, const Speeds& speeds);
// All trials plus a constant per visit (configure, warm up).
double estimate_study_s(const StudySpec& spec, const Plan& plan, const Speeds& speeds);

// The spec's scenarios with their repeats times `scale`, at least what each allows. scale in (0, 1].
std::vector<ScenarioSpec> scaled_scenarios(const StudySpec& spec, double scale);
// The largest scale in (0, 1] with which the study fits the budget, as far as repeats can do it.
double scale_for_budget(const StudySpec& spec, const Plan& plan, const Speeds& speeds, double budget_s);

// Time left, learnt from what has ended.
class RemainingTime {
 public:
  RemainingTime(const std::vector<ScenarioSpec>& scenarios, const Speeds& speeds);
  void learn(const std::string& configuration, const std::string& scenario, double seconds);
  double trial_s(const std::string& configuration, const std::string& scenario) const;

 private:
  struct Mean {
    double sum = 0;
    int count = 0;
    void add(double x) { sum += x, ++count; }
    double value() const { return sum / count; }
  };
  std::map<std::string, double> estimates_;
  std::map<std::string, Mean> by_scenario_;
  std::map<std::pair<std::string, std::string>, Mean> by_pair_;
};

inline constexpr double kVisitOverheadS = 0.8;

}  // namespace crible::study
