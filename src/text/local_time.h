// For tests: the moment at which local clocks, whatever the zone, show what UTC showed at `utc_seconds`.
#pragma once

#include <chrono>
#include <ctime>

namespace crible {

inline std::chrono::system_clock::time_point local_moment(std::time_t utc_seconds) {
  std::tm fields{};
  gmtime_r(&utc_seconds, &fields);
  fields.tm_isdst = -1;
  return std::chrono::system_clock::from_time_t(std::mktime(&fields));
}

}  // namespace crible
