// Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases on query, key and value. Small models tie the
// head to the embedding. A config.json may give the later layers a window.
#include "model/architectures.h"

namespace crible {

Result<DecoderDescription> describe_qwen2(const Checkpoint& checkpoint) {
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint));
  return DecoderDescription{.config = std::move(config), .traits = {.needs_qkv_bias = true}};
}

}  // namespace crible
