#include "base/clock.h"

#include <fmt/chrono.h>

#include <ctime>

namespace crible {

std::string wall_time_iso8601() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

int64_t unix_seconds() { return static_cast<int64_t>(std::time(nullptr)); }

}  // namespace crible
