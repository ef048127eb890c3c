// From a checkpoint (GGUF or Hugging Face) to the GPU decoder's weights. Says before any long work what of a
// model this decoder does not compute: experts, windows, soft caps, other activations, partial rotation.
#pragma once

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/cuda/decoder_shape.h"
#include "model/cuda/decoder_weights.h"
#include "model/decoder_traits.h"

namespace crible::cuda {

struct LoadedDecoder {
  DecoderWeights weights;
  RopeTable rope;
};

Result<DecoderShape> decoder_shape(const Checkpoint& checkpoint, const DecoderDescription& description);
// Matrices of any type that the checkpoint gives are dequantised to `type`; BF16 goes over as it is. An error
// names the tensor that is missing, misshapen or has no place.
Result<LoadedDecoder> load_decoder_weights(Checkpoint& checkpoint, const DecoderDescription& description,
                                           WeightType type);

}  // namespace crible::cuda
