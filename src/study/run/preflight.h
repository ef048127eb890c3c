// What can be known to be wrong before anything is started: the model file, the key, room on the disk,
// another study at work in the same folder.
#pragma once

#include "base/result.h"
#include "study/record/spec.h"
#include "study/run/study_folder.h"

namespace crible::study {

// The API key that the spec's variable holds; empty if it names none. Fails if the variable is unset.
Result<std::string> read_api_key(const TargetSpec& target);
Status check_model_file(const TargetSpec& target);
// A trial's record takes some kilobytes per request: too little room is found now, not after an hour.
Status check_disk(const StudyFolder& folder, int trial_count);

}  // namespace crible::study
