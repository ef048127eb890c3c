// The checkpoint of a Hugging Face folder: config.json and safetensors. Weights of 16 and 32 bits stay
// in the mapping; AWQ, GPTQ and FP8 are converted when they are taken (quantised_linear.h).
#pragma once

#include <memory>

#include "model/checkpoint.h"

namespace crible {

Result<std::unique_ptr<Checkpoint>> open_hf_checkpoint(const std::filesystem::path& folder, Stream& stream);

}  // namespace crible
