#include "model/attention_block.h"

#include <array>

#include "ops/kv_write/kv_write.h"

namespace crible {

Result<AttentionBlock> AttentionBlock::load(Checkpoint& checkpoint, const DecoderDescription& decoder, int64_t layer,
                                            Stream& stream) {
  const ModelConfig& c = decoder.config;
  const std::string prefix = fmt::format("blk.{}.", layer);
  const auto norm_of = [&](std::string_view name, int64_t size) {
    return Norm::load(checkpoint, fmt::format("{}{}.weight", prefix, name), size, c.rms_epsilon);
  };
  CRIBLE_TRY(Norm norm, norm_of("attn_norm", c.embedding));
  const auto parts = std::to_array<StackedMatrix::Part>({{prefix + "attn_q", c.query_size()},
                                                         {prefix + "attn_k", c.kv_size()},
                                                         {prefix + "attn_v", c.kv_size()}});
  for (const StackedMatrix::Part& part : parts) {
    if (decoder.traits.needs_qkv_bias && !checkpoint.has(part.name + ".bias")) {
      return fail(ErrorCode::kCorrupt, "{}: the tensor {}.bias is missing", checkpoint.path(), part.name);
    }
  }
  CRIBLE_TRY(StackedMatrix qkv, StackedMatrix::load(checkpoint, parts, c.embedding, stream));
  std::optional<Norm> output_norm;
  if (decoder.traits.residual_norms) {
    CRIBLE_TRY(output_norm, norm_of("post_attention_norm", c.embedding));
  }
  CRIBLE_TRY(ResidualProjection output,
             ResidualProjection::load(checkpoint, prefix + "attn_output", c.embedding, c.query_size(),
                                      std::move(output_norm), stream));
  AttentionBlock block(std::move(norm), std::move(qkv), std::move(output));
  if (decoder.traits.query_key_norm) {
    CRIBLE_TRY(block.query_norm_, norm_of("attn_q_norm", c.head_size));
    CRIBLE_TRY(block.key_norm_, norm_of("attn_k_norm", c.head_size));
  }
  block.pairing_ = checkpoint.rope_pairing();
  block.window_ = c.window_of(layer);
  return block;
}

int64_t AttentionBlock::bytes() const {
  return norm_.bytes() + qkv_.bytes() + output_.bytes() + (query_norm_ ? query_norm_->bytes() : 0) +
         (key_norm_ ? key_norm_->bytes() : 0);
}

int64_t AttentionBlock::scratch_bytes(int64_t max_tokens) const {
  return std::max(qkv_.scratch_bytes(max_tokens), output_.scratch_bytes(max_tokens));
}

void AttentionBlock::forward(Stream& stream, const BatchView& batch, const ModelConfig& c,
                             const RopeTable& rope_table, const KvCacheView& cache, const Activations& a) const {
  const int64_t stride = c.qkv_size();
  float* q = a.qkv;
  float* k = q + c.query_size();
  float* v = k + c.kv_size();
  norm_.apply(stream, a.residual, batch.num_tokens, a.normed);
  qkv_.multiply(stream, a.normed, batch.num_tokens, a.qkv);
  if (query_norm_) query_norm_->apply_to_heads(stream, q, stride, batch.num_tokens, c.heads);
  if (key_norm_) key_norm_->apply_to_heads(stream, k, stride, batch.num_tokens, c.kv_heads);
  rope(stream, batch, {.q = q, .q_stride = stride, .heads = c.heads, .k = k, .k_stride = stride,
                       .kv_heads = c.kv_heads, .head_size = c.head_size, .pairing = pairing_, .table = &rope_table});
  kv_write(stream, batch, {.k = k, .v = v, .k_stride = stride, .v_stride = stride, .cache = cache});
  attention(stream, batch, {.q = q, .q_stride = stride, .out = a.attention, .out_stride = c.query_size(),
                            .heads = c.heads, .scale = static_cast<float>(c.attention_scale), .cache = cache,
                            .window = window_, .logit_softcap = static_cast<float>(c.attention_softcap)});
  output_.add(stream, a.attention, batch.num_tokens, a.normed, a.residual);
}

}  // namespace crible
