#include "model/decoder.h"

#include <algorithm>
#include <variant>

#include "base/check.h"
#include "model/activations.h"
#include "model/attention_block.h"
#include "model/expert_block.h"
#include "model/feed_forward_block.h"
#include "model/rope_config.h"
#include "ops/embed/embed.h"
#include "ops/softcap/softcap.h"

namespace crible {
namespace {

struct DecoderLayer {
  AttentionBlock attention;
  std::variant<FeedForwardBlock, ExpertBlock> feed_forward;
};

class Decoder final : public Model {
 public:
  Decoder(DecoderDescription description, Norm output_norm)
      : description_(std::move(description)), output_norm_(std::move(output_norm)) {}
  Status load(Checkpoint& checkpoint, Stream& stream);

  const ModelInfo& info() const override { return info_; }
  KvShape kv_shape() const override {
    return {.layers = config_.layers, .kv_heads = config_.kv_heads, .head_size = config_.head_size};
  }
  int64_t weight_bytes() const override;
  int64_t arena_bytes(const StepLimits& limits) const override {
    return lay_out(config_, limits.max_tokens, limits.max_logit_rows, nullptr).bytes;
  }
  int64_t scratch_bytes(const StepLimits& limits, int threads) const override;
  void forward(Stream& stream, const BatchView& batch, const ForwardBuffers& buffers) const override;

 private:
  Status load_layer(Checkpoint& checkpoint, int64_t index, Stream& stream);
  Status load_rope(Checkpoint& checkpoint);
  void head(Stream& stream, const BatchView& batch, const Activations& a, float* logits) const;
  const PackedMatrix& head_matrix() const { return tied_ ? embedding_ : output_; }
  const RopeTable& rope_of(size_t layer) const {
    return window_rope_ && config_.windowed[layer] ? *window_rope_ : rope_;
  }

  ModelInfo info_;
  const DecoderDescription description_;
  const ModelConfig& config_ = description_.config;
  PackedMatrix embedding_;
  std::vector<DecoderLayer> layers_;
  Norm output_norm_;
  bool tied_ = false;
  PackedMatrix output_;  // empty when tied
  RopeTable rope_;
  std::optional<RopeTable> window_rope_;
};

Status Decoder::load(Checkpoint& checkpoint, Stream& stream) {
  const ModelConfig& c = config_;
  CRIBLE_TRY(const MatrixSource table, checkpoint.matrix("token_embd.weight", c.vocabulary, c.embedding));
  CRIBLE_TRY(embedding_, PackedMatrix::pack({&table, 1}, stream));
  tied_ = !checkpoint.has("output.weight");
  if (!tied_) {
    CRIBLE_TRY(const MatrixSource output, checkpoint.matrix("output.weight", c.vocabulary, c.embedding));
    CRIBLE_TRY(output_, PackedMatrix::pack({&output, 1}, stream));
  }
  checkpoint.release();
  for (int64_t i = 0; i < c.layers; ++i) {
    CRIBLE_RETURN_IF_ERROR(load_layer(checkpoint, i, stream));
    checkpoint.release();
  }
  CRIBLE_RETURN_IF_ERROR(load_rope(checkpoint));
  CRIBLE_RETURN_IF_ERROR(checkpoint.check_all_taken());
  info_ = {.architecture = c.architecture,
           .quantization = checkpoint.dominant_type(),
           .path = checkpoint.path(),
           .parameters = checkpoint.parameters(),
           .context_length = c.context_length,
           .vocabulary = c.vocabulary,
           .layers = c.layers};
  return {};
}

Status Decoder::load_layer(Checkpoint& checkpoint, int64_t index, Stream& stream) {
  CRIBLE_TRY(AttentionBlock attention, AttentionBlock::load(checkpoint, description_, index, stream));
  // Which layers of a mixture are dense, the tensors tell.
  if (config_.experts > 0 && checkpoint.has(fmt::format("blk.{}.ffn_gate_inp.weight", index))) {
    CRIBLE_TRY(ExpertBlock experts, ExpertBlock::load(checkpoint, description_, index, stream));
    layers_.push_back({std::move(attention), std::move(experts)});
    return {};
  }
  CRIBLE_TRY(FeedForwardBlock dense, FeedForwardBlock::load(checkpoint, description_, index, stream));
  layers_.push_back({std::move(attention), std::move(dense)});
  return {};
}

Status Decoder::load_rope(Checkpoint& checkpoint) {
  CRIBLE_TRY(const std::vector<float> factors, load_rope_factors(checkpoint, config_.rotary_size));
  rope_ = make_rope_table(config_.rope, config_.rotary_size, config_.context_length, factors);
  if (config_.window_rope) {
    window_rope_ = make_rope_table(*config_.window_rope, config_.rotary_size, config_.context_length, {});
  }
  return {};
}

int64_t Decoder::weight_bytes() const {
  int64_t bytes = embedding_.bytes() + output_.bytes() + output_norm_.bytes() + rope_.bytes();
  if (window_rope_) bytes += window_rope_->bytes();
  for (const DecoderLayer& layer : layers_) {
    bytes += layer.attention.bytes();
    bytes += std::visit([](const auto& block) { return block.bytes(); }, layer.feed_forward);
  }
  return bytes;
}

int64_t Decoder::scratch_bytes(const StepLimits& limits, int threads) const {
  int64_t bytes = std::max(attention_scratch_bytes(limits.max_tokens, config_.heads, config_.head_size, threads),
                           matmul_scratch_bytes(limits.max_logit_rows, head_matrix()));
  for (const DecoderLayer& layer : layers_) {
    const int64_t feed_forward = std::visit(
        [&](const auto& block) { return block.scratch_bytes(limits.max_tokens, config_); }, layer.feed_forward);
    bytes = std::max({bytes, layer.attention.scratch_bytes(limits.max_tokens), feed_forward});
  }
  return bytes;
}

void Decoder::forward(Stream& stream, const BatchView& batch, const ForwardBuffers& buffers) const {
  const Activations a = lay_out(config_, batch.num_tokens, batch.num_logit_rows, buffers.arena.data());
  CHECK(a.bytes <= static_cast<int64_t>(buffers.arena.size()), "a step of {} tokens needs an arena of {} bytes",
        batch.num_tokens, a.bytes);
  embed(stream, batch, {.table = &embedding_, .out = a.residual, .out_stride = config_.embedding,
                        .scale = description_.traits.embedding_scale});
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.forward(stream, batch, config_, rope_of(i), buffers.cache[i], a);
    std::visit([&](const auto& block) { block.forward(stream, batch.num_tokens, config_, a); },
               layers_[i].feed_forward);
  }
  head(stream, batch, a, buffers.logits);
}

// Only rows whose logits are wanted pass the final norm and the head.
void Decoder::head(Stream& stream, const BatchView& batch, const Activations& a, float* logits) const {
  const auto rows = static_cast<size_t>(batch.num_logit_rows);
  output_norm_.apply_to_rows(stream, a.residual, {batch.logit_rows, rows}, a.head_input);
  matmul(stream, {.x = a.head_input, .rows = batch.num_logit_rows, .x_stride = config_.embedding,
                  .weight = &head_matrix(), .out = logits, .out_stride = config_.vocabulary});
  if (config_.logit_softcap > 0) {
    softcap(stream, {.x = logits, .rows = batch.num_logit_rows, .columns = config_.vocabulary,
                     .cap = static_cast<float>(config_.logit_softcap)});
  }
}

}  // namespace

Result<std::unique_ptr<Model>> load_decoder(Checkpoint& checkpoint, DecoderDescription description, Stream& stream) {
  CRIBLE_TRY(Norm norm, Norm::load(checkpoint, "output_norm.weight", description.config.embedding,
                                   description.config.rms_epsilon));
  auto decoder = std::make_unique<Decoder>(std::move(description), std::move(norm));
  CRIBLE_RETURN_IF_ERROR(decoder->load(checkpoint, stream));
  return decoder;
}

}  // namespace crible
