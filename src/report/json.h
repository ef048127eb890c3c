// report.json: the results for programs, as docs/report.schema.json describes them. Neutral to
// language; written from the study's result, not from the document.
#pragma once

#include <string>

#include "study/record/study_result.h"

namespace crible::report {

std::string render_json(const study::StudyResult& study);

}  // namespace crible::report
