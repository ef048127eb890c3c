// The builders of the report's sections: pure functions from the study's result to document parts.
// One file each. They state only what was measured; differences come from findings.h alone.
#pragma once

#include <vector>

#include "report/document.h"
#include "report/scribe.h"
#include "report/traces.h"
#include "study/record/study_result.h"

namespace crible::report {

// Borrowed for the time of building.
struct ReportContext {
  const study::StudyResult& study;
  const Traces& traces;
  const Scribe& scribe;
};

std::vector<Block> build_summary(const ReportContext& context);           // summary.cc
Section build_comparative_table(const ReportContext& context);            // comparative_table.cc
Section build_configuration_sections(const ReportContext& context);       // configuration_section.cc
Section build_tradeoffs(const ReportContext& context);                    // tradeoffs.cc
Section build_recommendations(const ReportContext& context);              // recommendations.cc
Section build_decision(const ReportContext& context);                     // decision.cc
Section build_annexes(const ReportContext& context);                      // annexes.cc
std::vector<Section> build_record_annexes(const ReportContext& context);  // record_annexes.cc

Section build_next_actions(const ReportContext& context);  // next_actions.cc

Document build_document(const ReportContext& context);  // sections.cc

// "#configuration-3" of the configuration's own section.
std::string configuration_anchor(const study::StudyResult& study, const std::string& name);
// Its name as code, linked to its section.
Inline configuration_link(const study::StudyResult& study, const std::string& name);

}  // namespace crible::report
