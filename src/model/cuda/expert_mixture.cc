#include "model/cuda/expert_mixture.h"

#include "base/check.h"
#include "ops/rms_norm/rms_norm_cuda.h"

namespace crible::cuda {

ExpertMixture::Room ExpertMixture::lay_out(DeviceArena& arena, const DecoderShape& s, int64_t max_tokens) {
  Room room;
  room.normed = arena.slice<__nv_bfloat16>(max_tokens * s.embedding);
  room.quantised = arena.slice<uint8_t>(max_tokens * s.embedding);
  room.scales = arena.slice<float>(max_tokens);
  room.logits = arena.slice<float>(max_tokens * s.experts);
  room.experts = lay_out_experts(arena, s.expert_sizes(), max_tokens);
  return room;
}

int64_t ExpertMixture::bytes_for(const DecoderShape& shape, int64_t max_tokens) {
  DeviceArena arena;
  lay_out(arena, shape, max_tokens);
  return arena.used_bytes();
}

Result<ExpertMixture> ExpertMixture::create(const CudaStream& stream, const DecoderWeights& weights,
                                            int64_t max_tokens, Matmul& matmul) {
  const DecoderShape& s = weights.shape();
  CRIBLE_RETURN_IF_ERROR(experts_fit(s.expert_sizes()));
  ExpertMixture mixture;
  mixture.shape_ = s;
  CRIBLE_TRY(mixture.buffer_, DeviceBuffer::allocate(bytes_for(s, max_tokens)));
  DeviceArena arena(mixture.buffer_.data(), mixture.buffer_.bytes());
  mixture.room_ = lay_out(arena, s, max_tokens);
  prepare_experts();
  CRIBLE_RETURN_IF_ERROR(clear_experts(stream, mixture.room_.experts, s.expert_sizes()));
  CRIBLE_RETURN_IF_ERROR(matmul.tune(stream, mixture.router(weights.layers()[0], 0), max_tokens));
  return mixture;
}

MatmulArgs ExpertMixture::router(const DecoderLayer& layer, int64_t tokens) const {
  return {.out_type = OutputType::kFloat,
          .x = room_.normed,
          .rows = tokens,
          .weight = layer.router.data,
          .out_features = layer.router.rows,
          .in_features = layer.router.columns,
          .out = room_.logits};
}

Status ExpertMixture::forward(const CudaStream& stream, const Matmul& matmul, const DecoderLayer& layer,
                              int64_t tokens, const __nv_bfloat16* residual, __nv_bfloat16* sums) const {
  const DecoderShape& s = shape_;
  rms_norm(stream, {.x = residual,
                    .x_stride = s.embedding,
                    .out = room_.normed,
                    .out_stride = s.embedding,
                    .weight = layer.feed_forward_norm,
                    .rows = tokens,
                    .columns = s.embedding,
                    .epsilon = s.epsilon});
  CRIBLE_RETURN_IF_ERROR(matmul.run(stream, router(layer, tokens)));
  route_to_experts(stream, s.expert_sizes(), room_.logits, tokens, s.normalise_experts, room_.experts);
  if (layer.gate_up.type == WeightType::kFp8)
    quantize_rows(stream, room_.normed, tokens, s.embedding,
                  {.data = room_.quantised, .scale = room_.scales});
  multiply(stream, layer, tokens, sums, /*grouped=*/false);
  return {};
}

void ExpertMixture::enqueue_few(const CudaStream& stream, const DecoderLayer& layer, int64_t tokens,
                                const __nv_bfloat16* residual, __nv_bfloat16* sums) const {
  choose_experts(stream,
                 {.sizes = shape_.expert_sizes(),
                  .rows = static_cast<int>(tokens),
                  .residual = residual,
                  .norm_weight = layer.feed_forward_norm,
                  .epsilon = shape_.epsilon,
                  .router = static_cast<const __nv_bfloat16*>(layer.router.data),
                  .normalise = shape_.normalise_experts,
                  .normed = room_.normed,
                  .quantised = layer.gate_up.type == WeightType::kFp8 ? room_.quantised : nullptr,
                  .scales = room_.scales},
                 room_.experts);
  multiply(stream, layer, tokens, sums, /*grouped=*/true);
}

// x is in the room, in BF16 or FP8 as the weights are.
void ExpertMixture::multiply(const CudaStream& stream, const DecoderLayer& layer, int64_t tokens,
                             __nv_bfloat16* sums, bool grouped) const {
  const bool fp8 = layer.gate_up.type == WeightType::kFp8;
  experts_feed_forward(stream,
                       {.sizes = shape_.expert_sizes(),
                        .rows = tokens,
                        .type = layer.gate_up.type,
                        .x = fp8 ? static_cast<const void*>(room_.quantised) : room_.normed,
                        .x_scale = room_.scales,
                        .gate_up = layer.gate_up.data,
                        .gate_up_scale = layer.gate_up.scale,
                        .down = layer.down.data,
                        .down_scale = layer.down.scale,
                        .residual = sums,
                        .grouped = grouped},
                       room_.experts);
}

}  // namespace crible::cuda
