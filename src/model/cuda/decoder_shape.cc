#include "model/cuda/decoder_shape.h"

#include <cmath>

namespace crible::cuda {

AttentionShape DecoderShape::attention() const {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_size = head_size,
          .block_size = 16,
          .scale = static_cast<float>(attention_scale > 0 ? attention_scale
                                                          : 1.0 / std::sqrt(static_cast<double>(head_size)))};
}

DecoderShape qwen3_8b() {
  return {.layers = 36,
          .embedding = 4096,
          .feed_forward = 12288,
          .heads = 32,
          .kv_heads = 8,
          .head_size = 128,
          .vocabulary = 151936,
          .context_length = 40960,
          .qk_norm = true};
}

DecoderShape qwen3_32b() {
  return {.layers = 64,
          .embedding = 5120,
          .feed_forward = 25600,
          .heads = 64,
          .kv_heads = 8,
          .head_size = 128,
          .vocabulary = 151936,
          .context_length = 40960,
          .qk_norm = true};
}

DecoderShape qwen3_30b_a3b() {
  return {.layers = 48,
          .embedding = 2048,
          .heads = 32,
          .kv_heads = 4,
          .head_size = 128,
          .vocabulary = 151936,
          .context_length = 40960,
          .qk_norm = true,
          .experts = 128,
          .experts_per_token = 8,
          .expert_feed_forward = 768};
}

RopeTable plain_rope_table(const DecoderShape& shape) {
  std::vector<double> frequencies(static_cast<size_t>(shape.head_size / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] =
        std::pow(shape.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_size));
  }
  return make_rope_table(frequencies, shape.context_length, 1.0);
}

}  // namespace crible::cuda
