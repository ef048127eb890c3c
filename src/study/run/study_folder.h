// Where a study lives on disk: one folder, with the store, the spec as it was read, the servers' logs, the
// report and the artifacts.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace crible::study {

struct StudyFolder {
  std::filesystem::path root;

  std::filesystem::path store() const { return root / "study.sqlite"; }
  std::filesystem::path spec() const { return root / "spec.yaml"; }
  std::filesystem::path logs() const { return root / "logs"; }
  std::filesystem::path artifacts() const { return root / "artifacts"; }
};

// Makes `root` and its subfolders; fails if it holds a study already.
Result<StudyFolder> create_study_folder(const std::filesystem::path& root);
// For resume and report: fails if there is no store.
Result<StudyFolder> open_study_folder(const std::filesystem::path& root);
// "runs/NAME-20260131-123456" under the working folder (local time).
std::filesystem::path default_study_root(const std::string& study_name);

}  // namespace crible::study
