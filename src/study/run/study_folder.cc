#include "study/run/study_folder.h"

#include <ctime>

namespace crible::study {

Result<StudyFolder> create_study_folder(const std::filesystem::path& root) {
  StudyFolder folder{root};
  std::error_code error;
  if (std::filesystem::exists(folder.store(), error)) {
    return fail(ErrorCode::kInvalidArgument,
                "{} holds a study already; resume it (crible study resume {}) or give another --out",
                root.string(), root.string());
  }
  for (const auto& path : {folder.root, folder.logs(), folder.artifacts()}) {
    std::filesystem::create_directories(path, error);
    if (error) return fail(ErrorCode::kIo, "cannot make the folder {}: {}", path.string(), error.message());
  }
  return folder;
}

Result<StudyFolder> open_study_folder(const std::filesystem::path& root) {
  StudyFolder folder{root};
  std::error_code error;
  if (!std::filesystem::exists(folder.store(), error)) {
    return fail(ErrorCode::kNotFound, "no study in {}: {} does not exist", root.string(),
                folder.store().string());
  }
  for (const auto& path : {folder.logs(), folder.artifacts()})
    std::filesystem::create_directories(path, error);
  return folder;
}

std::filesystem::path default_study_root(const std::string& study_name) {
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
  return std::filesystem::path("runs") / (study_name + "-" + stamp);
}

}  // namespace crible::study
