#include "study/run/preflight.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/units.h"

namespace crible::study {
namespace {

constexpr int64_t kBytesPerTrial = 64 * kKiB;
constexpr int64_t kBytesForLogsAndReport = 8 * kMiB;

}  // namespace

Result<std::string> read_api_key(const TargetSpec& target) {
  if (target.api_key_env.empty()) return std::string();
  const char* value = std::getenv(target.api_key_env.c_str());
  if (value == nullptr || *value == '\0') {
    return fail(ErrorCode::kInvalidArgument,
                "the spec reads its API key from {}, which is not set; export it first", target.api_key_env);
  }
  return std::string(value);
}

Status check_model_file(const TargetSpec& target) {
  if (target.engine == TargetEngine::kUrl) return {};
  if (::access(target.model.c_str(), R_OK) == 0) return {};
  return fail(ErrorCode::kInvalidArgument,
              "cannot read the model {}: {}; paths in a spec are relative to the working folder{}",
              target.model, std::strerror(errno),
              target.model.find("default.gguf") != std::string::npos
                  ? " (scripts/fetch_default_model gets the default one)"
                  : "");
}

Status check_disk(const StudyFolder& folder, int trial_count) {
  struct statvfs disk {};
  if (::statvfs(folder.root.c_str(), &disk) != 0) {
    return fail(ErrorCode::kIo, "cannot examine the disk of {}: {}", folder.root.string(),
                std::strerror(errno));
  }
  const auto free_bytes = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  const int64_t wanted = kBytesForLogsAndReport + trial_count * kBytesPerTrial;
  if (free_bytes >= wanted) return {};
  return fail(ErrorCode::kResourceExhausted,
              "{} has {} free but the study may write {}; free some or give another --out",
              folder.root.string(), format_bytes(free_bytes), format_bytes(wanted));
}

}  // namespace crible::study
