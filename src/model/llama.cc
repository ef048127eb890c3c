#include "model/llama.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/model_config.h"
#include "model/stacked_matrix.h"
#include "ops/embed/embed.h"
#include "ops/kv_write/kv_write.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rope/rope.h"
#include "ops/silu_mul/silu_mul.h"

namespace crible {
namespace {

// Rows of the feed-forward block computed at once: its wide intermediate results stay in the cache
// of the processor, and the arena does not grow with the step.
constexpr int64_t kFeedForwardRows = 256;
constexpr int64_t kSliceAlignment = 64;  // bytes

struct LlamaLayer {
  std::vector<float> attention_norm;
  StackedMatrix qkv;
  PackedMatrix attention_output;
  std::vector<float> feed_forward_norm;
  StackedMatrix gate_up;
  PackedMatrix down;
};

// Named slices of the arena. Attention's and the feed-forward block's share their place: one is done
// before the other starts.
struct Activations {
  float* residual;   // [tokens, embedding]
  float* normed;     // [tokens, embedding]
  float* qkv;        // [tokens, query_size + 2 · kv_size]
  float* attention;  // [tokens, query_size]
  float* gate_up;    // [min(tokens, kFeedForwardRows), 2 · feed_forward]
  float* gated;      // [min(tokens, kFeedForwardRows), feed_forward]
  float* head_input; // [logit rows, embedding]
  int64_t bytes;
};

Activations lay_out(const ModelConfig& c, int64_t tokens, int64_t logit_rows, std::byte* arena) {
  int64_t offset = 0;
  const auto slice = [&](int64_t rows, int64_t columns) {
    float* start = reinterpret_cast<float*>(arena + offset);
    offset += round_up(rows * columns * static_cast<int64_t>(sizeof(float)), kSliceAlignment);
    return start;
  };
  Activations a;
  a.residual = slice(tokens, c.embedding);
  a.normed = slice(tokens, c.embedding);
  a.head_input = slice(logit_rows, c.embedding);
  const int64_t shared = offset;
  a.qkv = slice(tokens, c.qkv_size());
  a.attention = slice(tokens, c.query_size());
  const int64_t attention_end = offset;
  offset = shared;
  const int64_t rows = std::min(tokens, kFeedForwardRows);
  a.gate_up = slice(rows, 2 * c.feed_forward);
  a.gated = slice(rows, c.feed_forward);
  a.bytes = std::max(attention_end, offset);
  return a;
}

class Llama final : public Model {
 public:
  static Result<std::unique_ptr<Model>> load(Checkpoint& weights, Stream& stream);

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
  Status load_layer(Checkpoint& weights, int64_t index, Stream& stream);
  Status load_rope(Checkpoint& weights);
  void attention_block(Stream& stream, const BatchView& batch, const LlamaLayer& layer, const KvCacheView& cache,
                       const Activations& a) const;
  void feed_forward_block(Stream& stream, int64_t tokens, const LlamaLayer& layer, const Activations& a) const;
  void head(Stream& stream, const BatchView& batch, const Activations& a, float* logits) const;
  void norm(Stream& stream, const float* x, const std::vector<float>& weight, int64_t rows, float* out) const;
  const PackedMatrix& head_matrix() const { return tied_ ? embedding_ : output_; }

  ModelInfo info_;
  ModelConfig config_;
  PackedMatrix embedding_;
  bool tied_ = false;
  PackedMatrix output_;  // empty when tied
  std::vector<float> output_norm_;
  std::vector<LlamaLayer> layers_;
  RopePairing pairing_ = RopePairing::kInterleaved;
  RopeTable rope_;
};

Result<std::unique_ptr<Model>> Llama::load(Checkpoint& weights, Stream& stream) {
  auto model = std::make_unique<Llama>();
  CRIBLE_TRY(model->config_, read_model_config(weights));
  const ModelConfig& c = model->config_;
  model->pairing_ = weights.rope_pairing();
  CRIBLE_TRY(const MatrixSource table, weights.matrix("token_embd.weight", c.vocabulary, c.embedding));
  CRIBLE_TRY(model->embedding_, PackedMatrix::pack({&table, 1}, stream));
  model->tied_ = !weights.has("output.weight");
  if (!model->tied_) {
    CRIBLE_TRY(const MatrixSource output, weights.matrix("output.weight", c.vocabulary, c.embedding));
    CRIBLE_TRY(model->output_, PackedMatrix::pack({&output, 1}, stream));
  }
  CRIBLE_TRY(model->output_norm_, weights.vector("output_norm.weight", c.embedding));
  weights.release();
  for (int64_t i = 0; i < c.layers; ++i) {
    CRIBLE_RETURN_IF_ERROR(model->load_layer(weights, i, stream));
    weights.release();
  }
  CRIBLE_RETURN_IF_ERROR(model->load_rope(weights));
  CRIBLE_RETURN_IF_ERROR(weights.check_all_taken());
  model->info_ = {.architecture = c.architecture,
                  .quantization = weights.dominant_type(),
                  .path = weights.path(),
                  .parameters = weights.parameters(),
                  .context_length = c.context_length,
                  .vocabulary = c.vocabulary,
                  .layers = c.layers};
  return model;
}

Status Llama::load_layer(Checkpoint& weights, int64_t index, Stream& stream) {
  const ModelConfig& c = config_;
  const auto matrix = [&](std::string_view name, int64_t rows, int64_t columns) {
    return weights.matrix(fmt::format("blk.{}.{}.weight", index, name), rows, columns);
  };
  LlamaLayer layer;
  CRIBLE_TRY(layer.attention_norm, weights.vector(fmt::format("blk.{}.attn_norm.weight", index), c.embedding));
  CRIBLE_TRY(const MatrixSource q, matrix("attn_q", c.query_size(), c.embedding));
  CRIBLE_TRY(const MatrixSource k, matrix("attn_k", c.kv_size(), c.embedding));
  CRIBLE_TRY(const MatrixSource v, matrix("attn_v", c.kv_size(), c.embedding));
  CRIBLE_TRY(layer.qkv, StackedMatrix::pack(std::array{q, k, v}, stream));
  CRIBLE_TRY(const MatrixSource output, matrix("attn_output", c.embedding, c.query_size()));
  CRIBLE_TRY(layer.attention_output, PackedMatrix::pack({&output, 1}, stream));
  CRIBLE_TRY(layer.feed_forward_norm, weights.vector(fmt::format("blk.{}.ffn_norm.weight", index), c.embedding));
  CRIBLE_TRY(const MatrixSource gate, matrix("ffn_gate", c.feed_forward, c.embedding));
  CRIBLE_TRY(const MatrixSource up, matrix("ffn_up", c.feed_forward, c.embedding));
  CRIBLE_TRY(layer.gate_up, StackedMatrix::pack(std::array{gate, up}, stream));
  CRIBLE_TRY(const MatrixSource down, matrix("ffn_down", c.embedding, c.feed_forward));
  CRIBLE_TRY(layer.down, PackedMatrix::pack({&down, 1}, stream));
  layers_.push_back(std::move(layer));
  return {};
}

// θ_i = base^(-2i/d), divided by the linear factor and, where the file has them (Llama 3.1), by a
// factor per frequency.
Status Llama::load_rope(Checkpoint& weights) {
  const int64_t pairs = config_.rotary_size / 2;
  std::vector<float> factors(static_cast<size_t>(pairs), 1.0f);
  if (weights.has("rope_freqs.weight")) {
    CRIBLE_TRY(factors, weights.vector("rope_freqs.weight", pairs));
  }
  std::vector<double> frequencies(static_cast<size_t>(pairs));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config_.rotary_size);
    frequencies[i] =
        std::pow(config_.rope_base, exponent) / (config_.rope_linear_factor * static_cast<double>(factors[i]));
  }
  rope_ = make_rope_table(frequencies, config_.context_length, 1.0);
  return {};
}

int64_t Llama::weight_bytes() const {
  int64_t bytes = embedding_.bytes() + output_.bytes();
  size_t floats = output_norm_.size() + rope_.cosine.size() + rope_.sine.size();
  for (const LlamaLayer& layer : layers_) {
    bytes += layer.qkv.bytes() + layer.attention_output.bytes() + layer.gate_up.bytes() + layer.down.bytes();
    floats += layer.attention_norm.size() + layer.feed_forward_norm.size();
  }
  return bytes + static_cast<int64_t>(floats * sizeof(float));
}

int64_t Llama::scratch_bytes(const StepLimits& limits, int threads) const {
  int64_t bytes = std::max(attention_scratch_bytes(limits.max_tokens, config_.heads, config_.head_size, threads),
                           matmul_scratch_bytes(limits.max_logit_rows, head_matrix()));
  const int64_t feed_forward_rows = std::min(limits.max_tokens, kFeedForwardRows);
  for (const LlamaLayer& layer : layers_) {
    bytes = std::max({bytes, layer.qkv.scratch_bytes(limits.max_tokens),
                      matmul_scratch_bytes(limits.max_tokens, layer.attention_output),
                      layer.gate_up.scratch_bytes(feed_forward_rows),
                      matmul_scratch_bytes(feed_forward_rows, layer.down)});
  }
  return bytes;
}

void Llama::forward(Stream& stream, const BatchView& batch, const ForwardBuffers& buffers) const {
  const Activations a = lay_out(config_, batch.num_tokens, batch.num_logit_rows, buffers.arena.data());
  CHECK(a.bytes <= static_cast<int64_t>(buffers.arena.size()), "a step of {} tokens needs an arena of {} bytes",
        batch.num_tokens, a.bytes);
  embed(stream, batch, {.table = &embedding_, .out = a.residual, .out_stride = config_.embedding});
  for (size_t i = 0; i < layers_.size(); ++i) {
    attention_block(stream, batch, layers_[i], buffers.cache[i], a);
    feed_forward_block(stream, batch.num_tokens, layers_[i], a);
  }
  head(stream, batch, a, buffers.logits);
}

void Llama::attention_block(Stream& stream, const BatchView& batch, const LlamaLayer& layer,
                            const KvCacheView& cache, const Activations& a) const {
  const ModelConfig& c = config_;
  const int64_t stride = c.qkv_size();
  float* q = a.qkv;
  float* k = q + c.query_size();
  float* v = k + c.kv_size();
  norm(stream, a.residual, layer.attention_norm, batch.num_tokens, a.normed);
  layer.qkv.multiply(stream, a.normed, c.embedding, batch.num_tokens, a.qkv, stride);
  rope(stream, batch, {.q = q, .q_stride = stride, .heads = c.heads, .k = k, .k_stride = stride,
                       .kv_heads = c.kv_heads, .head_size = c.head_size, .pairing = pairing_,
                       .table = &rope_});
  kv_write(stream, batch, {.k = k, .v = v, .k_stride = stride, .v_stride = stride, .cache = cache});
  attention(stream, batch, {.q = q, .q_stride = stride, .out = a.attention, .out_stride = c.query_size(),
                            .heads = c.heads, .scale = 1.0f / std::sqrt(static_cast<float>(c.head_size)),
                            .cache = cache});
  matmul(stream, {.x = a.attention, .rows = batch.num_tokens, .x_stride = c.query_size(),
                  .weight = &layer.attention_output, .out = a.residual, .out_stride = c.embedding,
                  .accumulate = true});
}

void Llama::feed_forward_block(Stream& stream, int64_t tokens, const LlamaLayer& layer, const Activations& a) const {
  const ModelConfig& c = config_;
  for (int64_t first = 0; first < tokens; first += kFeedForwardRows) {
    const int64_t rows = std::min(kFeedForwardRows, tokens - first);
    float* residual = a.residual + first * c.embedding;
    norm(stream, residual, layer.feed_forward_norm, rows, a.normed);
    layer.gate_up.multiply(stream, a.normed, c.embedding, rows, a.gate_up, 2 * c.feed_forward);
    silu_mul(stream, {.gate_up = a.gate_up, .gate_up_stride = 2 * c.feed_forward, .out = a.gated,
                      .out_stride = c.feed_forward, .rows = rows, .columns = c.feed_forward});
    matmul(stream, {.x = a.gated, .rows = rows, .x_stride = c.feed_forward, .weight = &layer.down, .out = residual,
                    .out_stride = c.embedding, .accumulate = true});
  }
}

// Only rows whose logits are wanted pass the final norm and the head.
void Llama::head(Stream& stream, const BatchView& batch, const Activations& a, float* logits) const {
  for (int64_t r = 0; r < batch.num_logit_rows; ++r) {
    norm(stream, a.residual + batch.logit_rows[r] * config_.embedding, output_norm_, 1,
         a.head_input + r * config_.embedding);
  }
  matmul(stream, {.x = a.head_input, .rows = batch.num_logit_rows, .x_stride = config_.embedding,
                  .weight = &head_matrix(), .out = logits, .out_stride = config_.vocabulary});
}

void Llama::norm(Stream& stream, const float* x, const std::vector<float>& weight, int64_t rows, float* out) const {
  rms_norm(stream, {.x = x, .x_stride = config_.embedding, .out = out, .out_stride = config_.embedding,
                    .weight = weight.data(), .rows = rows, .columns = config_.embedding,
                    .epsilon = static_cast<float>(config_.rms_epsilon)});
}

}  // namespace

Result<std::unique_ptr<Model>> load_llama(Checkpoint& checkpoint, Stream& stream) {
  return Llama::load(checkpoint, stream);
}

}  // namespace crible
