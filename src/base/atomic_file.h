// Whole files in and out. A write is all or nothing: it goes to a temporary file in the same folder,
// is flushed to disk, then renamed over the target; a reader never sees half of it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible {

// A file that appears under its name with commit(), whole. Without it nothing is left behind.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::filesystem::path& path, mode_t mode = 0644);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  ~AtomicFile();

  Status append(std::string_view content);
  Status commit();

 private:
  AtomicFile(std::string target, std::string temporary, int fd, mode_t mode)
      : target_(std::move(target)), temporary_(std::move(temporary)), fd_(fd), mode_(mode) {}
  std::string target_;
  std::string temporary_;  // in the same folder; empty once renamed
  int fd_;
  mode_t mode_;
};

Status write_file_atomic(const std::filesystem::path& path, std::string_view content);

// max_bytes guards against reading something enormous by mistake.
Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes = 1 << 30);

}  // namespace crible
