// The Llama architecture (Touvron et al. 2023; grouped-query attention, Ainslie et al. 2023) from any
// checkpoint. Tied embeddings where it has no output.weight.
#pragma once

#include <memory>

#include "model/checkpoint.h"
#include "model/model.h"

namespace crible {

Result<std::unique_ptr<Model>> load_llama(Checkpoint& checkpoint, Stream& stream);

}  // namespace crible
