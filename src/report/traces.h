// Series of single requests that an analysis does not keep: for plots of distributions and of
// latency over the order of requests. A pure function of the stored records.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "study/record/store.h"
#include "study/record/study_result.h"

namespace crible::report {

struct Trace {
  std::string configuration;
  std::vector<double> x;
  std::vector<double> y;
};

// x: the value; y: share of samples at or below it. At most 200 points each, pooled over valid trials.
struct Distribution {
  std::string metric;
  std::string scenario;
  std::vector<Trace> traces;
};

struct Traces {
  std::vector<Distribution> distributions;
  // x: order of the request in its trial; y: E2EL over the mean E2EL of the requests of equal
  // output length in the same configuration, median over blocks. 1 means: as long as the others.
  std::vector<Trace> latency_order;
  std::string latency_scenario;
};

// Traces in the order of study.configurations; one without valid trials has none.
Traces collect_traces(const study::StoredStudy& stored, const study::StudyResult& study);

}  // namespace crible::report
