#include "model/cuda/decoder.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "model/cuda/tensor_parallel/step_schedule.h"
#include "ops/add/add_cuda.h"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/embed/embed_cuda.h"
#include "ops/kv_write/kv_write_cuda.h"
#include "ops/rms_norm/rms_norm_cuda.h"

namespace crible::cuda {
namespace {

// One long sequence of a step is widened from FP8; several where they fit in the same room.
AttentionOptions attention_options(const DecoderShape& shape, const StepLimits& limits,
                                   const DecoderOptions& options) {
  constexpr int64_t kWidenedTokens = 32768;
  const int64_t blocks =
      ceil_div(std::min(shape.context_length, kWidenedTokens), shape.attention().block_size);
  return {.kv_type = options.kv_type,
          .fixed = options.deterministic,
          .max_widened_blocks = std::min(limits.max_blocks, blocks)};
}

}  // namespace

Decoder::Activations Decoder::lay_out(const DecoderShape& s, WeightFormat format, const StepLimits& limits,
                                      std::byte* memory) {
  // Attention and the feed-forward block are never active together: the larger decides.
  const int64_t block = std::max(s.qkv_size() + s.query_size(), 3 * s.feed_forward);
  DeviceArena arena(memory, memory == nullptr ? 0 : INT64_MAX);
  const int64_t tokens = MatrixProducts::padded_rows(format, limits.max_tokens);
  Activations a;
  a.residual = arena.slice<__nv_bfloat16>(tokens * s.embedding);
  a.normed = arena.slice<__nv_bfloat16>(tokens * s.embedding);
  a.head_input = arena.slice<__nv_bfloat16>(limits.max_logit_rows * s.embedding);
  a.products = MatrixProducts::lay_out(arena, s, format, tokens);
  a.shares = arena.slice<uint64_t>(kDecodeShares);
  auto* shared = arena.slice<__nv_bfloat16>(tokens * block);
  a.qkv = shared;
  a.attention = shared + tokens * s.qkv_size();
  a.gate_up = shared;
  a.gated = shared + tokens * 2 * s.feed_forward;
  a.bytes = arena.used_bytes();
  return a;
}

int64_t Decoder::arena_bytes(const DecoderShape& shape, const StepLimits& limits, WeightFormat format) {
  const int64_t mixture = shape.experts > 0 ? ExpertMixture::bytes_for(shape, limits.max_tokens) : 0;
  return lay_out(shape, format, limits, nullptr).bytes + mixture;
}

int64_t Decoder::attention_bytes(const DecoderShape& shape, const StepLimits& limits,
                                 const DecoderOptions& options) {
  return PagedAttention::workspace_bytes(shape.attention(), {limits.max_tokens, limits.max_sequences},
                                         attention_options(shape, limits, options));
}

Result<Decoder> Decoder::create(const CudaStream& stream, const DecoderWeights& weights,
                                const RopeTable& rope, const StepLimits& limits,
                                const DecoderOptions& options, const MatmulChoices& tuned) {
  const DecoderShape& s = weights.shape();
  CRIBLE_TRY(MatrixProducts products,
             MatrixProducts::create(options.deterministic ? MatmulRule::kSameBits : MatmulRule::kFastest));
  CRIBLE_TRY(PagedAttention attention,
             PagedAttention::create(s.attention(), {limits.max_tokens, limits.max_sequences},
                                    attention_options(s, limits, options)));
  Decoder decoder(weights, std::move(products), std::move(attention));
  decoder.options_ = options;
  CRIBLE_TRY(decoder.rope_, DeviceRopeTable::upload(rope, s.pairing));
  CRIBLE_TRY(decoder.arena_, DeviceBuffer::allocate(lay_out(s, weights.format(), limits, nullptr).bytes));
  decoder.a_ = lay_out(s, weights.format(), limits, decoder.arena_.as<std::byte>());
  decoder.products_.use(decoder.a_.products);
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(decoder.a_.shares, 0, kDecodeShares * sizeof(uint64_t), stream.get()));
  prepare_decode_linear();
  prepare_decode_attention();
  decoder.products_.matmul().choose_as(tuned);
  CRIBLE_RETURN_IF_ERROR(decoder.tune(stream, limits));
  return decoder;
}

// The largest matmul first: its measurement warms the GPU up for the others.
Status Decoder::tune(const CudaStream& stream, const StepLimits& limits) {
  const DecoderLayer& layer = weights_->layers()[0];
  const auto measure = [&](const DeviceMatrix& m, const __nv_bfloat16* x, __nv_bfloat16* out,
                           bool accumulate) {
    return products_.tune(stream, m, x, out, accumulate, limits.max_tokens);
  };
  if (shape().experts > 0) {
    CRIBLE_TRY(mixture_, ExpertMixture::create(stream, *weights_, limits.max_tokens, products_.matmul()));
  } else {
    CRIBLE_RETURN_IF_ERROR(products_.tune_gated(stream, layer.gate_up, a_.normed, a_.gate_up, a_.gated, layer.down,
                                                limits.max_tokens));
    CRIBLE_RETURN_IF_ERROR(measure(layer.down, a_.gated, sums(), whole()));
  }
  CRIBLE_RETURN_IF_ERROR(measure(layer.qkv, a_.normed, a_.qkv, false));
  CRIBLE_RETURN_IF_ERROR(measure(layer.output, a_.attention, sums(), whole()));
  // The logits are the caller's: measured on memory of the same size, given back at once.
  CRIBLE_TRY(const DeviceBuffer logits,
             DeviceBuffer::allocate(limits.max_logit_rows * shape().head_rows() * 4));
  const DeviceMatrix& head = weights_->head();
  return products_.matmul().tune(stream,
                                 {.out_type = OutputType::kFloat,
                                  .x = a_.head_input,
                                  .weight = head.data,
                                  .out_features = head.rows,
                                  .in_features = head.columns,
                                  .out = logits.data()},
                                 limits.max_logit_rows);
}

void Decoder::embed_tokens(const CudaStream& stream, const DeviceStep& step) {
  embed(stream, {.table = static_cast<const __nv_bfloat16*>(weights_->embedding().data),
                 .token_ids = step.token_ids,
                 .drawn = step.drawn,
                 .out = a_.residual,
                 .tokens = step.num_tokens,
                 .columns = shape().embedding,
                 .vocabulary = shape().vocabulary});
}

Status Decoder::forward(const CudaStream& stream, const DeviceStep& step, const KvPool& cache,
                        float* logits) {
  for (int64_t part = 0; part < num_parts(shape()); ++part) {
    CRIBLE_RETURN_IF_ERROR(enqueue_part(stream, step, cache, logits, part, /*fused=*/false));
  }
  return {};
}

Status Decoder::enqueue_part(const CudaStream& stream, const DeviceStep& step, const KvPool& cache, float* logits,
                             int64_t part, bool fused) {
  if (part == 0) {
    embed_tokens(stream, step);
  } else if (!whole()) {
    add(stream, sums(), step.num_tokens * shape().embedding, a_.residual);
  }
  if (part + 1 == num_parts(shape())) {
    if (!fused) return head(stream, step, logits);
    fused_linear(stream, DecodeEpilogue::kLogits, weights_->head(), weights_->output_norm(), a_.residual,
                 step.num_sequences, logits, fused_.head_prefetch);
    return {};
  }
  const int64_t index = part / 2;
  const DecoderLayer& layer = weights_->layers()[static_cast<size_t>(index)];
  if (part % 2 == 1) {
    return fused ? fused_feed_forward(stream, step.num_sequences, layer)
                 : feed_forward_block(stream, step.num_tokens, layer);
  }
  const KvCache kv = cache.layer(index, layer.kv_scales);
  if (!fused) return attention_block(stream, step, layer, kv);
  fused_attention(stream, step, layer, kv);
  return {};
}

Status Decoder::attention_block(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
                                const KvCache& cache) {
  const DecoderShape& s = shape();
  products_.norm(stream,
                 {.x = a_.residual,
                  .x_stride = s.embedding,
                  .out = a_.normed,
                  .out_stride = s.embedding,
                  .weight = layer.attention_norm,
                  .rows = step.num_tokens,
                  .columns = s.embedding,
                  .epsilon = s.epsilon},
                 layer.qkv);
  CRIBLE_RETURN_IF_ERROR(products_.run(stream, layer.qkv, a_.normed, MatrixProducts::Operand::kMade,
                                       step.num_tokens, a_.qkv, false));
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
  return products_.run(stream, layer.output, a_.attention, MatrixProducts::Operand::kPlain, step.num_tokens,
                       sums(), whole());
}

Status Decoder::feed_forward_block(const CudaStream& stream, int64_t tokens, const DecoderLayer& layer) {
  const DecoderShape& s = shape();
  if (s.experts > 0) return mixture(stream, tokens, layer, /*few=*/false);
  products_.norm(stream,
                 {.x = a_.residual,
                  .x_stride = s.embedding,
                  .out = a_.normed,
                  .out_stride = s.embedding,
                  .weight = layer.feed_forward_norm,
                  .rows = tokens,
                  .columns = s.embedding,
                  .epsilon = s.epsilon},
                 layer.gate_up);
  CRIBLE_RETURN_IF_ERROR(
      products_.gated_product(stream, layer.gate_up, a_.normed, tokens, a_.gate_up, a_.gated, layer.down));
  return products_.run(stream, layer.down, a_.gated, MatrixProducts::Operand::kMade, tokens, sums(), whole());
}

Status Decoder::mixture(const CudaStream& stream, int64_t tokens, const DecoderLayer& layer, bool few) {
  if (!whole()) {
    // A mixture adds to what it finds.
    CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(sums(), 0, static_cast<size_t>(tokens * shape().embedding) * 2,
                                                stream.get()));
  }
  if (!few) return mixture_.forward(stream, products_.matmul(), layer, tokens, a_.residual, sums());
  mixture_.enqueue_few(stream, layer, tokens, a_.residual, sums());
  return {};
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
  return products_.matmul().run(stream, {.out_type = OutputType::kFloat,
                                         .x = a_.head_input,
                                         .rows = step.num_logit_rows,
                                         .weight = matrix.data,
                                         .out_features = matrix.rows,
                                         .in_features = matrix.columns,
                                         .out = logits,
                                         .settled_weight = true});
}

bool Decoder::fused_fits(int64_t rows) const {
  const DecoderShape& s = shape();
  const auto fits = [&](const DeviceMatrix& m, int64_t outputs, DecodeEpilogue epilogue) {
    return decode_linear_fits(m.type, static_cast<int>(rows), outputs, m.columns, epilogue);
  };
  if (options_.deterministic || rows < 1 || rows > kMaxDecodeRows) return false;
  if (!decode_attention_fits(s.attention())) return false;
  const DecoderLayer& layer = weights_->layers()[0];
  const bool feed_forward = s.experts > 0
                                ? mixture_.few_fit(rows)
                                : fits(layer.gate_up, s.feed_forward, DecodeEpilogue::kSiluMul) &&
                                      (layer.down.type == WeightType::kInt4 ||  // else fused_down()
                                       fits(layer.down, layer.down.rows, block_end()));
  return feed_forward && fits(layer.qkv, layer.qkv.rows, DecodeEpilogue::kStore) &&
         fits(layer.output, layer.output.rows, block_end()) &&
         fits(weights_->head(), s.head_rows(), DecodeEpilogue::kLogits);
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
                 .group = matrix.group,
                 .bias = bias,
                 .out = out,
                 .out_stride = outputs,
                 .out_features = static_cast<int>(outputs),
                 .in_features = static_cast<int>(matrix.columns),
                 .shares = a_.shares,
                 .prefetch_bytes = prefetch_bytes});
}

// The widest input of a layer: where it leaves no room for the ring, 4-bit weights have a product that stages
// it piece by piece.
Status Decoder::fused_down(const CudaStream& stream, const DeviceMatrix& down, int64_t rows) {
  if (down.type == WeightType::kInt4 &&
      !decode_linear_fits(down.type, static_cast<int>(rows), down.rows, down.columns, block_end())) {
    return products_.run(stream, down, a_.gated, MatrixProducts::Operand::kPlain, rows, sums(), whole());
  }
  fused_linear(stream, block_end(), down, nullptr, a_.gated, rows, sums(), fused_.down_prefetch);
  return {};
}

void Decoder::fused_attention(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
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
  fused_linear(stream, block_end(), layer.output, nullptr, a_.attention, rows, sums(), fused_.output_prefetch);
}

Status Decoder::fused_feed_forward(const CudaStream& stream, int64_t rows, const DecoderLayer& layer) {
  if (shape().experts > 0) return mixture(stream, rows, layer, /*few=*/true);
  fused_linear(stream, DecodeEpilogue::kSiluMul, layer.gate_up, layer.feed_forward_norm, a_.residual, rows,
               a_.gated, fused_.gate_up_prefetch);
  return fused_down(stream, layer.down, rows);
}

Status Decoder::decode_fused(const CudaStream& stream, const DeviceStep& step, const KvPool& cache,
                             float* logits) {
  CHECK(step.num_tokens == step.num_sequences && step.num_logit_rows == step.num_sequences,
        "{} tokens of {} sequences", step.num_tokens, step.num_sequences);
  for (int64_t part = 0; part < num_parts(shape()); ++part) {
    CRIBLE_RETURN_IF_ERROR(enqueue_part(stream, step, cache, logits, part, /*fused=*/true));
  }
  return {};
}

}  // namespace crible::cuda
