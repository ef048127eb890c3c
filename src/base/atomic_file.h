// Whole files in and out. A write is all or nothing: it goes to a temporary file in the same folder,
// is flushed to disk, then renamed over the target; a reader never sees half of it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible {

Status write_file_atomic(const std::filesystem::path& path, std::string_view content);

// max_bytes guards against reading something enormous by mistake.
Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes = 1 << 30);

}  // namespace crible
