// The decision on one objective, from contrasts and gates that are already computed. Internal to the
// analysis.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "study/record/verdict.h"

namespace crible::study {

// What the decision needs to know of a configuration.
struct Candidate {
  std::string name;
  bool failed = false;           // a failure on record
  int features_on = 0;
  double device_memory_mib = 0;  // infinity when unmeasured
  int64_t objective_samples = 0; // pooled; 0: the objective is unmeasured
};

struct DecisionInput {
  const ObjectiveSpec& objective;
  const std::vector<Candidate>& candidates;  // in the order of the spec
  const std::vector<Contrast>& contrasts;    // all; those of the objective's reference are used
  const std::vector<ConstraintResult>& constraints;  // all
  std::vector<int> constraint_indices;               // those of this objective
  double margin = 0.05;
};

Verdict decide(const DecisionInput& input);

}  // namespace crible::study
