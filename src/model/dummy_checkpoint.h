// A checkpoint without weights: made up on the spot in the shape and the types that a config.json states,
// the same on every machine. What the model says is noise; what it costs is what the real one costs.
// Values are spread so that every matrix keeps the size of what it multiplies and logits stay near 1.
#pragma once

#include <memory>

#include "model/checkpoint.h"

namespace crible {

// path: a folder with config.json, or that file.
Result<std::unique_ptr<Checkpoint>> open_dummy_checkpoint(const std::filesystem::path& path, Stream& stream);

}  // namespace crible
