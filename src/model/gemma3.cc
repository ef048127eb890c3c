// Gemma 3, text (Gemma team 2025): Gemma 2 with normalised query and key heads in place of soft caps. Five
// layers with a window rotate by a base of their own, unscaled; the sixth sees everything and carries the
// scaling of long contexts.
#include <cmath>

#include "model/architectures.h"

namespace crible {
namespace {

constexpr int64_t kLayersOf27B = 62;

}  // namespace

Result<DecoderDescription> describe_gemma3(const Checkpoint& checkpoint) {
  CRIBLE_TRY(ModelConfig config, read_model_config(checkpoint, {.rope_base = 1e6, .window_rope_base = 1e4,
                                                                .window_period = 6}));
  // GGUF has no key for the scale, in which one size differs from the others.
  if (!checkpoint.config().has("attention.scale") && config.layers == kLayersOf27B) {
    config.attention_scale = std::sqrt(static_cast<double>(config.heads) / static_cast<double>(config.embedding));
  }
  const float embedding_scale = std::sqrt(static_cast<float>(config.embedding));
  return DecoderDescription{.config = std::move(config),
                            .traits = {.query_key_norm = true,
                                       .residual_norms = true,
                                       .activation = GatedActivation::kGelu,
                                       .embedding_scale = embedding_scale}};
}

}  // namespace crible
