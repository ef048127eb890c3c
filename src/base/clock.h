// Time. Durations are measured on the monotonic clock only; the wall clock is for labels.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace crible {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Nanoseconds = std::chrono::nanoseconds;

inline TimePoint now() { return Clock::now(); }
inline double to_ms(Clock::duration d) {
  return std::chrono::duration<double, std::milli>(d).count();
}
inline double to_seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// UTC wall time, "2026-01-31T12:34:56Z".
std::string wall_time_iso8601();
// Seconds since the Unix epoch, for API fields named `created`.
int64_t unix_seconds();

}  // namespace crible
