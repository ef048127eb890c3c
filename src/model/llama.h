// The Llama architecture (Touvron et al. 2023; grouped-query attention, Ainslie et al. 2023) from GGUF
// files, whose converter permuted query and key rows for interleaved RoPE. Tied embeddings where the
// file has no output.weight.
#pragma once

#include <memory>

#include "format/gguf.h"
#include "model/model.h"

namespace crible {

Result<std::unique_ptr<Model>> load_llama(const GgufFile& file, Stream& stream);

}  // namespace crible
