// Qwen3 dense (Qwen team 2025): Llama whose query and key heads are normalised before rotation, with heads
// that are wider than embedding / heads.
#include "model/architectures.h"

namespace crible {

Result<DecoderDescription> describe_qwen3(const Checkpoint& checkpoint) {
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint));
  return DecoderDescription{.config = std::move(config), .traits = {.query_key_norm = true}};
}

}  // namespace crible
