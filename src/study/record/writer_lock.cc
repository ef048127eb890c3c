#include "study/record/writer_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace crible::study {

Result<WriterLock> WriterLock::acquire(const std::filesystem::path& store) {
  const std::string path = store.string() + ".lock";
  WriterLock lock;
  lock.fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock.fd_ < 0) {
    return fail(ErrorCode::kIo, "cannot create {}: {}; check that the folder exists and is writable",
                path, std::strerror(errno));
  }
  if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
    return fail(ErrorCode::kUnavailable,
                "{} is being written by another study; wait until it ends, or name another store",
                store.string());
  }
  return lock;
}

WriterLock::WriterLock(WriterLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

WriterLock& WriterLock::operator=(WriterLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

WriterLock::~WriterLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace crible::study
