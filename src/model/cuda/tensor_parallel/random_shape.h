// For tests: small decoders that a number of ranks can share.
#pragma once

#include <cstdint>
#include <vector>

#include "model/cuda/decoder_shape.h"
#include "ops/random_values.h"

namespace crible::cuda {

// Dense or mixed, tied or not, with fewer, as many or more KV heads than ranks; a vocabulary that ends anywhere.
inline DecoderShape random_shape(RandomValues& random, int64_t ranks) {
  std::vector<int64_t> kv_choices = {ranks, 2 * ranks};
  for (int64_t divisor = 1; divisor < ranks; ++divisor) {
    if (ranks % divisor == 0) kv_choices.push_back(divisor);
  }
  const int64_t kv_heads = kv_choices[static_cast<size_t>(random.integer(0, std::ssize(kv_choices) - 1))];
  const int64_t unit = kv_heads > ranks ? kv_heads : ranks;
  DecoderShape shape = {.layers = 2,
                        .embedding = 32,
                        .heads = unit * random.integer(1, 3),
                        .kv_heads = kv_heads,
                        .head_size = 8,
                        .vocabulary = random.integer(17, 200),
                        .context_length = 64,
                        .qk_norm = random.integer(0, 1) == 1,
                        .qkv_bias = random.integer(0, 1) == 1,
                        .tied = random.integer(0, 1) == 1};
  const int64_t hidden = ranks * 16 * random.integer(1, 2);
  if (random.integer(0, 1) == 0) {
    shape.feed_forward = hidden;
  } else {
    shape.experts = 4;
    shape.experts_per_token = 2;
    shape.expert_feed_forward = hidden;
  }
  return shape;
}

}  // namespace crible::cuda
