// The forward pass of every decoder-only transformer that this build knows, on the CPU: embedding, layers
// of attention and feed-forward (dense or a mixture of experts), norm and head. What differs between
// architectures is data (decoder_traits.h). Layers with a window read only it, but keep what lies before it
// in the cache: blocks are shared by all layers, and a cached prefix serves every layer from any position.
#pragma once

#include <memory>

#include "model/checkpoint.h"
#include "model/decoder_traits.h"
#include "model/model.h"

namespace crible {

// Reads and packs all weights; an error names the tensor that is missing, misshapen, of an unknown type,
// or that has no place in the description.
Result<std::unique_ptr<Model>> load_decoder(Checkpoint& checkpoint, DecoderDescription description, Stream& stream);

}  // namespace crible
