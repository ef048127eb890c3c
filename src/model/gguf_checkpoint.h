// The checkpoint of a GGUF file: tensors stay in the mapping in the blocks they were written in.
#pragma once

#include <memory>

#include "format/gguf.h"
#include "model/checkpoint.h"

namespace crible {

Result<std::unique_ptr<Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& path);

}  // namespace crible
