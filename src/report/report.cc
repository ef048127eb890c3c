#include "report/report.h"

#include "base/atomic_file.h"
#include "report/console.h"
#include "report/html.h"
#include "report/json.h"
#include "report/markdown.h"
#include "report/sections.h"

namespace crible::report {

Result<ReportFiles> write_report(const study::StudyResult& study, const ReportOptions& options) {
  CRIBLE_TRY(const Language language,
             parse_language(options.language.empty() ? study.spec.language : options.language));
  const Scribe scribe(language);
  const Traces traces = options.records == nullptr ? Traces{} : collect_traces(*options.records, study);
  const Document document = build_document({study, traces, scribe});
  const ReportFiles files{options.output_folder / "report.md", options.output_folder / "report.json",
                          options.output_folder / "report.html"};
  CRIBLE_RETURN_IF_ERROR(write_file_atomic(files.markdown, render_markdown(document)));
  CRIBLE_RETURN_IF_ERROR(write_file_atomic(files.json, render_json(study)));
  CRIBLE_RETURN_IF_ERROR(write_file_atomic(files.html, render_html(document, scribe.numbers())));
  return files;
}

Result<Language> parse_language(const std::string& name) {
  if (name == "en") return Language::kEnglish;
  if (name == "fr") return Language::kFrench;
  return fail(ErrorCode::kInvalidArgument, "unknown report language '{}': use 'en' or 'fr'", name);
}

std::string console_summary(const study::StudyResult& study, const std::string& language, size_t columns,
                            bool colour) {
  const Scribe scribe(parse_language(language).value_or(Language::kEnglish));
  return render_console({study, {}, scribe}, columns, colour);
}

}  // namespace crible::report
