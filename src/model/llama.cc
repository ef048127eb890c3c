// Llama 2 and 3 (Touvron et al. 2023; Grattafiori et al. 2024) and Mistral (Jiang et al. 2023): the plain
// decoder. Mistral is Llama with a window in every layer, and its GGUF files say "llama". Llama 3.1's RoPE
// scaling is the type llama3 in a config.json and the tensor rope_freqs.weight in a GGUF.
#include "model/architectures.h"

namespace crible {

Result<DecoderDescription> describe_llama(const Checkpoint& checkpoint) {
  const ConfigKeys& keys = checkpoint.config();
  if (const auto experts = keys.integer("expert_count"); experts && *experts > 0) {
    return fail(ErrorCode::kUnsupported,
                "{}: a mixture of {} experts is not supported in llama models; use a dense one", checkpoint.path(),
                *experts);
  }
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint));
  return DecoderDescription{.config = std::move(config), .traits = {}};
}

}  // namespace crible
