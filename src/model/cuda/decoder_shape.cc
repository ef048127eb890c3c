#include "model/cuda/decoder_shape.h"

#include <cmath>

namespace crible::cuda {

AttentionShape DecoderShape::attention() const {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_size = head_size,
          .block_size = 16,
          .scale = 1.0f / std::sqrt(static_cast<float>(head_size))};
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

}  // namespace crible::cuda
