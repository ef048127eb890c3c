// A study from declaration to its last trial: survey of all configurations, then blocks of interleaved
// measurement, every trial stored as it ends. Failures of a configuration are recorded and the study goes
// on; a wrong configuration, a full disk or the operator stops it. What is stored can be resumed.
// CONTRACT.md states the rules.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "base/gpu_telemetry.h"
#include "base/result.h"
#include "study/record/spec.h"
#include "study/run/progress.h"
#include "study/run/study_folder.h"

namespace crible::study {

struct RunOptions {
  std::filesystem::path program;  // the executable that can `serve`
  std::string program_version;
  std::chrono::seconds boot_deadline{120};
  std::filesystem::path nvml_library = kNvmlLibrary;  // GPU telemetry
};

enum class RunOutcome {
  kFinished,         // every visit was made; failures, if any, are in the store
  kNothingMeasured,  // every configuration failed
  kStopped,          // going on would have measured the wrong thing
  kInterrupted,
};

struct RunSummary {
  RunOutcome outcome = RunOutcome::kFinished;
  std::string message;  // why, unless finished
  int trials_done = 0;
  int trials_planned = 0;
  int failures = 0;
};

// An Error is one of the study's own: the store, the disk, the preflight. Must be called on a thread
// that lives as long as the servers that it starts: the main thread.
Result<RunSummary> run_study(const StudySpec& spec, const std::string& spec_source, const StudyFolder& folder,
                             const RunOptions& options, Progress& progress, const std::atomic<bool>& stop);
// Makes the trials that the folder's store lacks.
Result<RunSummary> resume_study(const StudyFolder& folder, const RunOptions& options, Progress& progress,
                                const std::atomic<bool>& stop);

}  // namespace crible::study
