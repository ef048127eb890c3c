#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace crible {
namespace {

// Closes the descriptor on every way out.
struct FileDescriptor {
  int fd = -1;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Status write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
      return fail(full ? ErrorCode::kResourceExhausted : ErrorCode::kIo, "cannot write {}: {}{}", path,
                  std::strerror(errno), full ? "; free some disk space and run again" : "");
    }
    content.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path, mode_t mode) {
  const std::string target = path.string();
  std::string pattern = target + ".XXXXXX";
  const int fd = ::mkostemp(pattern.data(), O_CLOEXEC);
  if (fd < 0) {
    return fail(ErrorCode::kIo, "cannot create a file beside {}: {}; check that the folder exists and is writable",
                target, std::strerror(errno));
  }
  return AtomicFile(target, std::move(pattern), fd, mode);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)),
      mode_(other.mode_) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

Status AtomicFile::append(std::string_view content) { return write_all(fd_, content, target_); }

Status AtomicFile::commit() {
  if (::fchmod(fd_, mode_) != 0 || ::fsync(fd_) != 0) {
    return fail(ErrorCode::kIo, "cannot flush {}: {}", target_, std::strerror(errno));
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    return fail(ErrorCode::kIo, "cannot rename onto {}: {}", target_, std::strerror(errno));
  }
  temporary_.clear();
  return {};
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view content) {
  CRIBLE_TRY(AtomicFile file, AtomicFile::create(path));
  CRIBLE_RETURN_IF_ERROR(file.append(content));
  return file.commit();
}

Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes) {
  const std::string name = path.string();
  FileDescriptor file{::open(name.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open {}: {}", name,
                std::strerror(errno));
  }
  std::string content;
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kIo, "cannot read {}: {}", name, std::strerror(errno));
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
    if (content.size() > max_bytes) {
      return fail(ErrorCode::kInvalidArgument, "{} is larger than {} bytes, which is the most read here",
                  name, max_bytes);
    }
  }
}

}  // namespace crible
