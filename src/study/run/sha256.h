// SHA-256 (FIPS 180-4) of a file: the name of a model that no rename can change.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace crible::study {

// 64 lower-case hexadecimal digits.
Result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace crible::study
