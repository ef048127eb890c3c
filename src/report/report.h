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
  // The content of the store that `study` was analysed from: gives the figures of single requests
  // (distributions, latency over time). They are left out without it. Borrowed for the call.
  const study::StoredStudy* records = nullptr;
};

struct ReportFiles {
  std::filesystem::path markdown;
  std::filesystem::path json;
  std::filesystem::path html;
};

Result<ReportFiles> write_report(const study::StudyResult& study, const ReportOptions& options);

// The summary for a terminal: at most `columns` wide; colours only where asked for (a terminal).
// An unknown language is English.
std::string console_summary(const study::StudyResult& study, const std::string& language, size_t columns,
                            bool colour);

Result<Language> parse_language(const std::string& name);  // "en", "fr"

}  // namespace crible::report
