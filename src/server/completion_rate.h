// How fast completions end, over the most recent of them: what a client that is refused for a full queue
// is told to wait follows from it. While nothing ends, the rate falls with time. One thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace crible {

class CompletionRate {
 public:
  void note(TimePoint end) {
    ends_[noted_ % kKept] = end;
    noted_ += 1;
  }
  // Until `count` more will have ended. Nothing before a second one has.
  std::optional<double> seconds_for(int64_t count, TimePoint time) const {
    if (noted_ < 2) return std::nullopt;
    const size_t kept = noted_ < kKept ? noted_ : kKept;
    const TimePoint oldest = ends_[(noted_ - kept) % kKept];
    return to_seconds(time - oldest) / static_cast<double>(kept - 1) * static_cast<double>(count);
  }

 private:
  static constexpr size_t kKept = 64;
  std::array<TimePoint, kKept> ends_{};
  size_t noted_ = 0;
};

}  // namespace crible
