// What goes into production: for every configuration that a verdict proposes, the launch command and the
// settings, both made from the effective values that were measured, never from the spec. So the deployed
// configuration is the tested one.
#pragma once

#include "base/result.h"
#include "study/record/study_result.h"
#include "study/run/study_folder.h"

namespace crible::study {

// Writes artifacts/CONFIGURATION.{sh,json} and lists them in result.artifacts. A function of the result
// alone: doing it again writes the same bytes.
Status promote(const StudyFolder& folder, StudyResult& result);

}  // namespace crible::study
