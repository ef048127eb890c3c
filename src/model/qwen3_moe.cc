// Qwen3-MoE (Qwen team 2025): Qwen3 whose feed-forward blocks are experts, a few of which each token is
// routed to. A config.json may keep some layers dense; which, the tensors tell.
#include "model/architectures.h"

namespace crible {

Result<DecoderDescription> describe_qwen3_moe(const Checkpoint& checkpoint) {
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint));
  if (config.experts == 0) {
    return fail(ErrorCode::kCorrupt, "{}: {} is 0 or missing in a mixture of experts", checkpoint.path(),
                checkpoint.config().spelling("expert_count"));
  }
  return DecoderDescription{.config = std::move(config), .traits = {.query_key_norm = true}};
}

}  // namespace crible
