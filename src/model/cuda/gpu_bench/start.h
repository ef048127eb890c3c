// From a checkpoint on disk to a decoder that is ready, each part timed.
#pragma once

#include <filesystem>
#include <optional>

#include "base/result.h"
#include "model/cuda/decoder_weights.h"

namespace crible::cuda {

// Loads in the format that the checkpoint has, or in `format`.
Status measure_start(const std::filesystem::path& path, std::optional<WeightFormat> format);

}  // namespace crible::cuda
