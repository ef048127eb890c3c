#include "study/run/study_run.h"

#include "base/atomic_file.h"
#include "study/run/preflight.h"
#include "study/run/study_session.h"

namespace crible::study {
namespace {

Result<RunSummary> run_session(StudySession::Setup setup, Progress& progress, const std::atomic<bool>& stop) {
  CRIBLE_TRY(setup.api_key, read_api_key(setup.spec.target));
  CRIBLE_RETURN_IF_ERROR(check_model_file(setup.spec.target));
  CRIBLE_RETURN_IF_ERROR(check_disk(setup.folder, make_plan(setup.spec).trial_count));
  StudySession session(std::move(setup), progress, stop);
  return session.run();
}

}  // namespace

Result<RunSummary> run_study(const StudySpec& spec, const std::string& spec_source, const StudyFolder& folder,
                             const RunOptions& options, Progress& progress, const std::atomic<bool>& stop) {
  CRIBLE_RETURN_IF_ERROR(write_file_atomic(folder.spec(), spec.source_text));
  return run_session({.spec = spec, .spec_source = spec_source, .folder = folder, .options = options},
                     progress, stop);
}

Result<RunSummary> resume_study(const StudyFolder& folder, const RunOptions& options, Progress& progress,
                                const std::atomic<bool>& stop) {
  StudySession::Setup setup{.folder = folder, .options = options};
  {
    CRIBLE_TRY(const Store reader, Store::open_read_only(folder.store()));
    CRIBLE_TRY(setup.stored, reader.load_study());
  }
  setup.spec_source = setup.stored->spec_source;
  CRIBLE_TRY(setup.spec, parse_spec(setup.stored->spec_text, setup.spec_source));
  CRIBLE_TRY(setup.store, Store::open(folder.store(), setup.stored->spec_text));
  return run_session(std::move(setup), progress, stop);
}

}  // namespace crible::study
