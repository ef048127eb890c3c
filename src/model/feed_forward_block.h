// One layer's dense feed-forward: norm, fused gate and up, gated activation, and back to the residual
// stream, kFeedForwardRows rows at a time. Immutable once loaded.
#pragma once

#include <cstdint>

#include "model/activations.h"
#include "model/decoder_traits.h"
#include "model/norm.h"
#include "model/residual_projection.h"
#include "model/stacked_matrix.h"

namespace crible {

class FeedForwardBlock {
 public:
  static Result<FeedForwardBlock> load(Checkpoint& checkpoint, const DecoderDescription& decoder, int64_t layer,
                                       Stream& stream);

  int64_t bytes() const { return norm_.bytes() + gate_up_.bytes() + down_.bytes(); }
  int64_t scratch_bytes(int64_t max_tokens, const ModelConfig& config) const;
  // a.residual += feed_forward(a.residual) for all tokens.
  void forward(Stream& stream, int64_t tokens, const ModelConfig& config, const Activations& a) const;

 private:
  FeedForwardBlock(Norm norm, StackedMatrix gate_up, ResidualProjection down, GatedActivation activation)
      : norm_(std::move(norm)), gate_up_(std::move(gate_up)), down_(std::move(down)), activation_(activation) {}

  Norm norm_;
  StackedMatrix gate_up_;
  ResidualProjection down_;
  GatedActivation activation_;
};

}  // namespace crible
