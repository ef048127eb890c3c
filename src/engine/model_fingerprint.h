// Tells one set of weights from another without reading all of it: a 128-bit hash (XXH3) over the name,
// the size, the beginning and evenly spread pieces of every file of the model. Takes milliseconds.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "engine/prefix_index.h"

namespace crible {

// model: a file, or a folder whose files count in order of their names.
Result<BlockHash> model_fingerprint(const std::filesystem::path& model);

}  // namespace crible
