// From a checkpoint (GGUF or Hugging Face) to the GPU decoder's weights. Says before any long work what of a
// model this decoder does not compute: windows, soft caps, other activations, partial rotation.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

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

// One rank of a tensor-parallel group per GPU.
struct DecoderShares {
  std::vector<DecoderWeights> ranks;
  RopeTable rope;
};

// Asked with what a rank's weights take on its GPU, which is the current device, before memory is taken.
using AllowWeights = std::function<Status(int64_t bytes)>;

Result<DecoderShape> decoder_shape(const Checkpoint& checkpoint, const DecoderDescription& description);

// format: of the layers' matrices. Without one, that which keeps them as the checkpoint has them: 4 bits
// (AWQ, GPTQ with its groups in order, Q4_0 throughout), FP8 with its scales, else BF16, also where matrices
// differ. What is in another format becomes BF16 (16-bit floats rounded, quantised weights dequantised) or,
// float weights only, FP8; what cannot is an error. Every tensor is found, its shape and type checked, before
// any matrix is read. threads: 0 for as many as there is use for.
Result<LoadedDecoder> load_decoder_weights(Checkpoint& checkpoint, const DecoderDescription& description,
                                           std::optional<WeightFormat> format, int threads = 0);
// The same divided over GPUs as ShardPlan says, rank r on devices[r]: each GPU holds its share and no more, and
// memory for all shares is taken before anything is read.
Result<DecoderShares> load_decoder_shares(Checkpoint& checkpoint, const DecoderDescription& description,
                                          std::optional<WeightFormat> format, std::span<const int> devices,
                                          const AllowWeights& allow, int threads = 0);
// The same with made-up weights, and no tensor read: --load-format dummy.
Result<DecoderShares> dummy_decoder_shares(const Checkpoint& checkpoint, const DecoderDescription& description,
                                           WeightFormat format, std::span<const int> devices,
                                           const AllowWeights& allow);
// What dummy weights stand for: the format of the checkpoint that its configuration describes.
WeightFormat configured_format(const QuantizationScheme& scheme, const DecoderShape& shape);

}  // namespace crible::cuda
