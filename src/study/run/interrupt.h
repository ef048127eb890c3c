// SIGINT and SIGTERM as a flag: the first asks the study to end cleanly, a second ends the program at once.
#pragma once

#include <atomic>

namespace crible::study {

class InterruptScope {
 public:
  InterruptScope();
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  const std::atomic<bool>& flag() const;
};

}  // namespace crible::study
