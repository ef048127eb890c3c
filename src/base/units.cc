#include "base/units.h"

#include <fmt/format.h>

namespace crible {

std::string format_bytes(int64_t bytes) {
  if (bytes >= kGiB) return fmt::format("{:.2f} GiB", double(bytes) / double(kGiB));
  if (bytes >= kMiB) return fmt::format("{:.1f} MiB", double(bytes) / double(kMiB));
  if (bytes >= kKiB) return fmt::format("{:.1f} KiB", double(bytes) / double(kKiB));
  return fmt::format("{} B", bytes);
}

}  // namespace crible
