// For tests: the weights of the float64 decoder on the GPU, rounded to a type.
#pragma once

#include <vector>

#include "base/check.h"
#include "model/cuda/decoder_weights.h"
#include "model/cuda/reference_decoder.h"

namespace crible::cuda {

inline DecoderWeights upload(const ReferenceDecoder& reference, WeightType type) {
  DecoderWeights weights = DecoderWeights::allocate(reference.shape, type).value();
  const auto matrix = [](const DeviceMatrix& target, const std::vector<float>& values) {
    if (!values.empty()) CHECK(upload_rows(target, 0, values));
  };
  const auto vector = [](__nv_bfloat16* target, const std::vector<float>& values) {
    if (!values.empty()) CHECK(upload_vector(target, values));
  };
  matrix(weights.embedding(), reference.embedding);
  if (!reference.shape.tied) matrix(weights.head(), reference.head);
  vector(weights.output_norm(), reference.output_norm);
  for (size_t i = 0; i < reference.layers.size(); ++i) {
    const ReferenceLayer& from = reference.layers[i];
    const DecoderLayer& to = weights.layers()[i];
    vector(to.attention_norm, from.attention_norm);
    matrix(to.qkv, from.qkv);
    vector(to.qkv_bias, from.qkv_bias);
    vector(to.q_norm, from.q_norm);
    vector(to.k_norm, from.k_norm);
    matrix(to.output, from.output);
    vector(to.feed_forward_norm, from.feed_forward_norm);
    matrix(to.router, from.router);
    matrix(to.gate_up, from.gate_up);
    matrix(to.down, from.down);
  }
  return weights;
}

}  // namespace crible::cuda
