// Sentences of verdicts, their reasons and their gates: shared by summary, recommendations and decision.
#pragma once

#include <string>
#include <vector>

#include "report/sections.h"

namespace crible::report {

std::string verdict_label(const Scribe& scribe, study::VerdictKind kind);
Tone verdict_tone(study::VerdictKind kind);
// "the lowest TTFT (HIT), p50".
std::string criterion(const Scribe& scribe, const study::Verdict& verdict);
// One sentence that says what was decided.
Inline verdict_sentence(const ReportContext& context, const study::Verdict& verdict);
Inline reason_sentence(const ReportContext& context, const study::Verdict& verdict,
                       const study::VerdictReason& reason);
// "error rate, mean ≤ 1.0%".
std::string constraint_text(const Scribe& scribe, const study::ConstraintSpec& constraint);
// How far the configuration meets it: observed, bound, samples.
Inline constraint_sentence(const Scribe& scribe, const study::ConstraintResult& result);

// "difference shown", "equivalent" or "not shown".
Cell conclusion_cell(const Scribe& scribe, const study::Contrast& contrast);

// A gate of one configuration, once, however many use cases ask for it.
std::vector<const study::ConstraintResult*> distinct_constraints(const study::StudyResult& study,
                                                                 const std::string& configuration);

}  // namespace crible::report
