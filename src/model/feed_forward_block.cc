#include "model/feed_forward_block.h"

#include <array>

#include "ops/gelu_mul/gelu_mul.h"
#include "ops/silu_mul/silu_mul.h"

namespace crible {

Result<FeedForwardBlock> FeedForwardBlock::load(Checkpoint& checkpoint, const DecoderDescription& decoder,
                                                int64_t layer, Stream& stream) {
  const ModelConfig& c = decoder.config;
  const std::string prefix = fmt::format("blk.{}.", layer);
  const auto norm_of = [&](std::string_view name) {
    return Norm::load(checkpoint, fmt::format("{}{}.weight", prefix, name), c.embedding, c.rms_epsilon);
  };
  CRIBLE_TRY(Norm norm, norm_of("ffn_norm"));
  const auto parts = std::to_array<StackedMatrix::Part>(
      {{prefix + "ffn_gate", c.feed_forward}, {prefix + "ffn_up", c.feed_forward}});
  CRIBLE_TRY(StackedMatrix gate_up, StackedMatrix::load(checkpoint, parts, c.embedding, stream));
  std::optional<Norm> output_norm;
  if (decoder.traits.residual_norms) {
    CRIBLE_TRY(output_norm, norm_of("post_ffw_norm"));
  }
  CRIBLE_TRY(ResidualProjection down,
             ResidualProjection::load(checkpoint, prefix + "ffn_down", c.embedding, c.feed_forward,
                                      std::move(output_norm), stream));
  return FeedForwardBlock(std::move(norm), std::move(gate_up), std::move(down), decoder.traits.activation);
}

int64_t FeedForwardBlock::scratch_bytes(int64_t max_tokens, const ModelConfig&) const {
  const int64_t rows = std::min(max_tokens, kFeedForwardRows);
  return std::max(gate_up_.scratch_bytes(rows), down_.scratch_bytes(rows));
}

void FeedForwardBlock::forward(Stream& stream, int64_t tokens, const ModelConfig& c, const Activations& a) const {
  const int64_t hidden = c.feed_forward;
  for (int64_t first = 0; first < tokens; first += kFeedForwardRows) {
    const int64_t rows = std::min(kFeedForwardRows, tokens - first);
    float* residual = a.residual + first * c.embedding;
    norm_.apply(stream, residual, rows, a.normed);
    gate_up_.multiply(stream, a.normed, rows, a.gate_up);
    if (activation_ == GatedActivation::kSilu) {
      silu_mul(stream, {.gate_up = a.gate_up, .gate_up_stride = 2 * hidden, .out = a.gated, .out_stride = hidden,
                        .rows = rows, .columns = hidden});
    } else {
      gelu_mul(stream, {.gate_up = a.gate_up, .gate_up_stride = 2 * hidden, .out = a.gated, .out_stride = hidden,
                        .rows = rows, .columns = hidden});
    }
    down_.add(stream, a.gated, rows, a.normed, residual);
  }
}

}  // namespace crible
