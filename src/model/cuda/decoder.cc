#include "model/cuda/decoder.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/embed/embed_cuda.h"
#include "ops/kv_write/kv_write_cuda.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {

Decoder::Activations Decoder::lay_out(const DecoderShape& s, const StepLimits& limits, std::byte* memory) {
  // Attention and the feed-forward block are never active together: the larger decides.
  const int64_t block = std::max(s.qkv_size() + s.query_size(), 3 * s.feed_forward);
  DeviceArena arena(memory, memory == nullptr ? 0 : INT64_MAX);
  Activations a;
  a.residual = arena.slice<__nv_bfloat16>(limits.max_tokens * s.embedding);
  a.normed = arena.slice<__nv_bfloat16>(limits.max_tokens * s.embedding);
  a.head_input = arena.slice<__nv_bfloat16>(limits.max_logit_rows * s.embedding);
  a.quantised =
      arena.slice<uint8_t>(limits.max_tokens * std::max({s.embedding, s.query_size(), s.feed_forward}));
  a.scales = arena.slice<float>(limits.max_tokens);
  auto* shared = arena.slice<__nv_bfloat16>(limits.max_tokens * block);
  a.qkv = shared;
  a.attention = shared + limits.max_tokens * s.qkv_size();
  a.gate_up = shared;
  a.gated = shared + limits.max_tokens * 2 * s.feed_forward;
  a.bytes = arena.used_bytes();
  return a;
}

int64_t Decoder::arena_bytes(const DecoderShape& shape, const StepLimits& limits) {
  return lay_out(shape, limits, nullptr).bytes;
}

Result<Decoder> Decoder::create(const CudaStream& stream, const DecoderWeights& weights,
                                const RopeTable& rope, const StepLimits& limits) {
  const DecoderShape& s = weights.shape();
  CRIBLE_TRY(Matmul matmul, Matmul::create());
  CRIBLE_TRY(PagedAttention attention,
             PagedAttention::create(s.attention(), {limits.max_tokens, limits.max_sequences}));
  Decoder decoder(weights, std::move(matmul), std::move(attention));
  CRIBLE_TRY(decoder.rope_, DeviceRopeTable::upload(rope, s.pairing));
  CRIBLE_TRY(decoder.arena_, DeviceBuffer::allocate(arena_bytes(s, limits)));
  decoder.a_ = lay_out(s, limits, decoder.arena_.as<std::byte>());
  prepare_decode_linear();
  prepare_decode_attention();
  CRIBLE_RETURN_IF_ERROR(decoder.tune(stream, limits));
  return decoder;
}

// The largest matmul first: its measurement warms the GPU up for the others.
Status Decoder::tune(const CudaStream& stream, const StepLimits& limits) {
  const DecoderLayer& layer = weights_->layers()[0];
  const auto args = [&](const DeviceMatrix& m, const __nv_bfloat16* x, __nv_bfloat16* out, bool accumulate) {
    const bool fp8 = m.type == WeightType::kFp8;
    return MatmulArgs{.type = m.type,
                      .x = fp8 ? static_cast<const void*>(a_.quantised) : x,
                      .x_scale = fp8 ? a_.scales : nullptr,
                      .weight = m.data,
                      .weight_scale = m.scale,
                      .out_features = m.rows,
                      .in_features = m.columns,
                      .out = out,
                      .accumulate = accumulate};
  };
  const int64_t tokens = limits.max_tokens;
  CRIBLE_RETURN_IF_ERROR(matmul_.tune(stream, args(layer.gate_up, a_.normed, a_.gate_up, false), tokens));
  CRIBLE_RETURN_IF_ERROR(matmul_.tune(stream, args(layer.down, a_.gated, a_.residual, true), tokens));
  CRIBLE_RETURN_IF_ERROR(matmul_.tune(stream, args(layer.qkv, a_.normed, a_.qkv, false), tokens));
  CRIBLE_RETURN_IF_ERROR(matmul_.tune(stream, args(layer.output, a_.attention, a_.residual, true), tokens));
  // The logits are the caller's: measured on memory of the same size, given back at once.
  CRIBLE_TRY(const DeviceBuffer logits,
             DeviceBuffer::allocate(limits.max_logit_rows * shape().vocabulary * 4));
  MatmulArgs head = args(weights_->head(), a_.head_input, nullptr, false);
  head.out_type = OutputType::kFloat;
  head.out = logits.data();
  return matmul_.tune(stream, head, limits.max_logit_rows);
}

Status Decoder::multiply(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x,
                         int64_t rows, __nv_bfloat16* out, bool accumulate) {
  MatmulArgs args = {.type = matrix.type,
                     .x = x,
                     .rows = rows,
                     .weight = matrix.data,
                     .weight_scale = matrix.scale,
                     .out_features = matrix.rows,
                     .in_features = matrix.columns,
                     .out = out,
                     .accumulate = accumulate};
  if (matrix.type == WeightType::kFp8) {
    quantize_rows(stream, x, rows, matrix.columns, a_.quantised, a_.scales);
    args.x = a_.quantised;
    args.x_scale = a_.scales;
  }
  return matmul_.run(stream, args);
}

Status Decoder::forward(const CudaStream& stream, const DeviceStep& step, const KvPool& cache,
                        float* logits) {
  const DecoderShape& s = shape();
  embed(stream, {.table = static_cast<const __nv_bfloat16*>(weights_->embedding().data),
                 .token_ids = step.token_ids,
                 .out = a_.residual,
                 .tokens = step.num_tokens,
                 .columns = s.embedding,
                 .vocabulary = s.vocabulary});
  for (int64_t i = 0; i < s.layers; ++i) {
    const DecoderLayer& layer = weights_->layers()[static_cast<size_t>(i)];
    CRIBLE_RETURN_IF_ERROR(attention_block(stream, step, layer, cache.layer(i)));
    CRIBLE_RETURN_IF_ERROR(feed_forward_block(stream, step.num_tokens, layer));
  }
  return head(stream, step, logits);
}

Status Decoder::attention_block(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
                                const KvCache& cache) {
  const DecoderShape& s = shape();
  rms_norm(stream, {.x = a_.residual,
                    .x_stride = s.embedding,
                    .out = a_.normed,
                    .out_stride = s.embedding,
                    .weight = layer.attention_norm,
                    .rows = step.num_tokens,
                    .columns = s.embedding,
                    .epsilon = s.epsilon});
  CRIBLE_RETURN_IF_ERROR(multiply(stream, layer.qkv, a_.normed, step.num_tokens, a_.qkv, false));
  kv_write(stream, {.qkv = a_.qkv,
                    .tokens = step.num_tokens,
                    .positions = step.positions,
                    .slots = step.slots,
                    .bias = layer.qkv_bias,
                    .q_norm = layer.q_norm,
                    .k_norm = layer.k_norm,
                    .epsilon = s.epsilon,
                    .rope = rope_.view(),
                    .shape = s.attention(),
                    .cache = cache});
  CRIBLE_RETURN_IF_ERROR(attention_.run(stream, a_.qkv, s.qkv_size(), step.attention, cache, a_.attention));
  return multiply(stream, layer.output, a_.attention, step.num_tokens, a_.residual, true);
}

Status Decoder::feed_forward_block(const CudaStream& stream, int64_t tokens, const DecoderLayer& layer) {
  const DecoderShape& s = shape();
  rms_norm(stream, {.x = a_.residual,
                    .x_stride = s.embedding,
                    .out = a_.normed,
                    .out_stride = s.embedding,
                    .weight = layer.feed_forward_norm,
                    .rows = tokens,
                    .columns = s.embedding,
                    .epsilon = s.epsilon});
  CRIBLE_RETURN_IF_ERROR(multiply(stream, layer.gate_up, a_.normed, tokens, a_.gate_up, false));
  silu_mul(stream, {.gate_up = a_.gate_up, .out = a_.gated, .rows = tokens, .columns = s.feed_forward});
  return multiply(stream, layer.down, a_.gated, tokens, a_.residual, true);
}

// Only rows whose logits are wanted pass the final norm and the head.
Status Decoder::head(const CudaStream& stream, const DeviceStep& step, float* logits) {
  const DecoderShape& s = shape();
  const DeviceMatrix& matrix = weights_->head();
  rms_norm(stream, {.x = a_.residual,
                    .x_stride = s.embedding,
                    .row_indices = step.logit_rows,
                    .out = a_.head_input,
                    .out_stride = s.embedding,
                    .weight = weights_->output_norm(),
                    .rows = step.num_logit_rows,
                    .columns = s.embedding,
                    .epsilon = s.epsilon});
  return matmul_.run(stream, {.out_type = OutputType::kFloat,
                              .x = a_.head_input,
                              .rows = step.num_logit_rows,
                              .weight = matrix.data,
                              .out_features = matrix.rows,
                              .in_features = matrix.columns,
                              .out = logits});
}

bool Decoder::fused_fits(int64_t rows) const {
  const DecoderShape& s = shape();
  const auto fits = [&](const DeviceMatrix& m, int64_t outputs, DecodeEpilogue epilogue) {
    return decode_linear_fits(m.type, static_cast<int>(rows), outputs, m.columns, epilogue);
  };
  if (rows < 1 || rows > kMaxDecodeRows || !decode_attention_fits(s.attention())) return false;
  const DecoderLayer& layer = weights_->layers()[0];
  return fits(layer.qkv, layer.qkv.rows, DecodeEpilogue::kStore) &&
         fits(layer.output, layer.output.rows, DecodeEpilogue::kAddResidual) &&
         fits(layer.gate_up, s.feed_forward, DecodeEpilogue::kSiluMul) &&
         fits(layer.down, layer.down.rows, DecodeEpilogue::kAddResidual) &&
         fits(weights_->head(), s.vocabulary, DecodeEpilogue::kLogits);
}

void Decoder::fused_linear(const CudaStream& stream, DecodeEpilogue epilogue, const DeviceMatrix& matrix,
                           const __nv_bfloat16* norm, const __nv_bfloat16* x, int64_t rows, void* out,
                           int prefetch_bytes, const __nv_bfloat16* bias) {
  const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? matrix.rows / 2 : matrix.rows;
  decode_linear(stream, matrix.type, epilogue,
                {.x = x,
                 .x_stride = matrix.columns,
                 .rows = static_cast<int>(rows),
                 .norm_weight = norm,
                 .epsilon = shape().epsilon,
                 .weight = matrix.data,
                 .weight_scale = matrix.scale,
                 .bias = bias,
                 .out = out,
                 .out_stride = outputs,
                 .out_features = static_cast<int>(outputs),
                 .in_features = static_cast<int>(matrix.columns),
                 .prefetch_bytes = prefetch_bytes});
}

void Decoder::fused_layer(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
                          const KvCache& cache) {
  const int64_t rows = step.num_sequences;
  fused_linear(stream, DecodeEpilogue::kStore, layer.qkv, layer.attention_norm, a_.residual, rows, a_.qkv,
               fused_.qkv_prefetch, layer.qkv_bias);
  decode_attention(stream,
                   {.qkv = a_.qkv,
                    .out = a_.attention,
                    .rows = static_cast<int>(rows),
                    .q_norm = layer.q_norm,
                    .k_norm = layer.k_norm,
                    .epsilon = shape().epsilon,
                    .rope = rope_.view(),
                    .slots = step.slots,
                    .context_length = step.context_length,
                    .kv_start = step.attention.kv_start,
                    .kv_blocks = step.attention.kv_blocks,
                    .shape = shape().attention(),
                    .cache = cache},
                   fused_.attention_cluster);
  fused_linear(stream, DecodeEpilogue::kAddResidual, layer.output, nullptr, a_.attention, rows, a_.residual,
               fused_.output_prefetch);
  fused_linear(stream, DecodeEpilogue::kSiluMul, layer.gate_up, layer.feed_forward_norm, a_.residual, rows,
               a_.gated, fused_.gate_up_prefetch);
  fused_linear(stream, DecodeEpilogue::kAddResidual, layer.down, nullptr, a_.gated, rows, a_.residual,
               fused_.down_prefetch);
}

Status Decoder::decode_fused(const CudaStream& stream, const DeviceStep& step, const KvPool& cache,
                             float* logits) {
  const DecoderShape& s = shape();
  CHECK(step.num_tokens == step.num_sequences && step.num_logit_rows == step.num_sequences,
        "{} tokens of {} sequences", step.num_tokens, step.num_sequences);
  embed(stream, {.table = static_cast<const __nv_bfloat16*>(weights_->embedding().data),
                 .token_ids = step.token_ids,
                 .out = a_.residual,
                 .tokens = step.num_tokens,
                 .columns = s.embedding,
                 .vocabulary = s.vocabulary});
  for (int64_t i = 0; i < s.layers; ++i) {
    fused_layer(stream, step, weights_->layers()[static_cast<size_t>(i)], cache.layer(i));
  }
  fused_linear(stream, DecodeEpilogue::kLogits, weights_->head(), weights_->output_norm(), a_.residual,
               step.num_sequences, logits, fused_.head_prefetch);
  return {};
}

}  // namespace crible::cuda
