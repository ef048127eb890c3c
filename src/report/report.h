// Writes a study's report: report.md, report.json and report.html in one folder, each atomically.
// A pure function of its input: no clock, no locale; the same input gives the same bytes, whatever
// the machine. Nothing is started, nothing but the three files is written.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "report/number_format.h"
#include "study/record/store.h"
#include "study/record/study_result.h"

namespace crible::report {

struct ReportOptions {
  std::filesystem::path output_folder;  // must exist
  std::string language;                 // "en" or "fr"; empty: the language that the study states
};

struct ReportFiles {
  std::filesystem::path markdown;
  std::filesystem::path json;
  std::filesystem::path html;
};

// From a store's content (Store::load_study): analyses it, and draws distributions and latency
// over time from its single requests.
Result<ReportFiles> write_report(const study::StoredStudy& stored, const ReportOptions& options);
// From an analysis alone: the same without the figures of single requests.
Result<ReportFiles> write_report(const study::StudyResult& study, const ReportOptions& options);

// The summary for a terminal: at most `columns` wide; colours only where asked for (a terminal).
// An unknown language is English.
std::string console_summary(const study::StudyResult& study, const std::string& language, size_t columns,
                            bool colour);

Result<Language> parse_language(const std::string& name);  // "en", "fr"

}  // namespace crible::report
