// Stores with known content, for the report's tests and for looking at the page: requests made from
// a seed, not measured. Deterministic on every platform.
#pragma once

#include <string>

#include "study/record/store.h"
#include "study/record/study_result.h"

namespace crible::report {

enum class SyntheticKind {
  kComplete,  // four configurations, all scenarios, clear effects
  kTroubled,  // one configuration fails at boot, one crashes half-way, one trial is invalid
  kSingle,    // one configuration
  kEmpty,     // no trial was run
  kGpu,       // as kComplete, on a GPU that was not idle at the start and too hot in one trial
  kHostile,   // messages and logs that hold markup; see rename_with_markup
};

study::StoredStudy make_synthetic_study(SyntheticKind kind);

// Gives the hostile study's configurations and use case names that no spec would allow, but a
// store written by something else might hold.
void rename_with_markup(study::StudyResult& study);

}  // namespace crible::report
