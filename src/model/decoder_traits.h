// What every model of an architecture has in common and no file states. With the configuration it
// describes the forward pass completely, whatever device computes it.
#pragma once

#include "model/model_config.h"

namespace crible {

enum class GatedActivation { kSilu, kGelu };  // kGelu: the tanh approximation

struct DecoderTraits {
  bool query_key_norm = false;  // each query and key head is normalised before it is rotated
  bool needs_qkv_bias = false;  // query, key and value always have biases; elsewhere the checkpoint decides
  bool residual_norms = false;  // what a block adds to the residual stream is normalised first
  GatedActivation activation = GatedActivation::kSilu;
  float embedding_scale = 1;
};

struct DecoderDescription {
  ModelConfig config;
  DecoderTraits traits;
};

}  // namespace crible
