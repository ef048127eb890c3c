// A Hugging Face folder with random BF16 weights, for measuring how fast one is loaded: config.json and one
// model.safetensors, written by several threads.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "model/cuda/decoder_shape.h"

namespace crible::cuda {

// A Qwen3 model of that shape. Overwrites what is there.
Status write_random_checkpoint(const std::filesystem::path& folder, const DecoderShape& shape);

}  // namespace crible::cuda
