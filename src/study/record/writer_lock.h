// Exclusive right to write a store, held through flock on a file beside it and freed by the kernel
// when the process dies. SQLite's own locks last for one transaction only and would let two
// studies take turns.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace crible::study {

class WriterLock {
 public:
  // Never waits: fails while another process, or another lock of this one, holds it.
  static Result<WriterLock> acquire(const std::filesystem::path& store);

  WriterLock() = default;
  WriterLock(WriterLock&& other) noexcept;
  WriterLock& operator=(WriterLock&& other) noexcept;
  ~WriterLock();

 private:
  int fd_ = -1;
};

}  // namespace crible::study
