#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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

Status write_file_atomic(const std::filesystem::path& path, std::string_view content) {
  const std::string target = path.string();
  std::string pattern = target + ".XXXXXX";
  FileDescriptor file{::mkstemp(pattern.data())};
  if (file.fd < 0) {
    return fail(ErrorCode::kIo, "cannot create a file beside {}: {}; check that the folder exists and is writable",
                target, std::strerror(errno));
  }
  Status written = write_all(file.fd, content, target);
  if (written && (::fchmod(file.fd, 0644) != 0 || ::fsync(file.fd) != 0)) {
    written = fail(ErrorCode::kIo, "cannot flush {}: {}", target, std::strerror(errno));
  }
  if (written && ::rename(pattern.c_str(), target.c_str()) != 0) {
    written = fail(ErrorCode::kIo, "cannot rename onto {}: {}", target, std::strerror(errno));
  }
  if (!written) ::unlink(pattern.c_str());
  return written;
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
