// Gemma 2 (Gemma team 2024): GELU gates, norms before and after both blocks, embeddings scaled by the root
// of their width, soft caps on scores and logits, a window in every other layer. Norm weights are those
// of GGUF, 1 + w.
#include <cmath>

#include "model/architectures.h"

namespace crible {
namespace {

constexpr int64_t kLayersOf27B = 46;

}  // namespace

Result<DecoderDescription> describe_gemma2(const Checkpoint& checkpoint) {
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint, {.window_period = 2}));
  // GGUF has no key for the scale, in which one size differs from the others.
  if (!checkpoint.config().has("attention.scale") && config.layers == kLayersOf27B) {
    config.attention_scale = std::sqrt(static_cast<double>(config.heads) / static_cast<double>(config.embedding));
  }
  const float embedding_scale = std::sqrt(static_cast<float>(config.embedding));
  return DecoderDescription{.config = std::move(config),
                            .traits = {.residual_norms = true,
                                       .activation = GatedActivation::kGelu,
                                       .embedding_scale = embedding_scale}};
}

}  // namespace crible
