// The order in which a study measures: blocks, in each block every configuration once in a random
// order from the seed, in each configuration every scenario. A pure function of the spec, so that
// resume finds the same trials under the same ids.
#pragma once

#include <string>
#include <vector>

#include "study/record/spec.h"

namespace crible::study {

struct PlannedTrial {
  std::string id;  // "b2/chunked_only_safe/kv_cache"
  std::string scenario;
  uint64_t seed = 0;  // for the trial's prompts: differs from every other trial's
};

// One configuration's turn in one block.
struct PlannedVisit {
  int block = 0;
  int order_in_block = 0;
  std::string configuration;
  std::vector<PlannedTrial> trials;  // in the order of the spec's scenarios
};

struct Plan {
  std::vector<PlannedVisit> visits;  // in the order to run
  int trial_count = 0;
};

Plan make_plan(const StudySpec& spec);

}  // namespace crible::study
