// A study's result written out by hand, small enough to check its report line by line.
#pragma once

#include "study/record/study_result.h"

namespace crible::report {

study::StudyResult make_small_study();

}  // namespace crible::report
