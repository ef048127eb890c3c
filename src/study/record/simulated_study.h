// Studies with a known truth, for tests: synthetic requests whose latencies carry block effects,
// drift, heavy-tailed noise per trial and outliers per request, as a busy machine's do.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "study/record/spec.h"
#include "study/record/store.h"

namespace crible::study {

struct Simulation {
  uint64_t seed = 1;
  int configurations = 4;
  int blocks = 5;
  // Configuration index -> factor on every latency. 1 where absent.
  std::map<int, double> latency_factors;
  double trial_noise = 0.02;  // scale of Student's t with 3 degrees of freedom, per trial
  double failure_rate = 0;
};

StoredStudy simulate(const Simulation& simulation);

}  // namespace crible::study
