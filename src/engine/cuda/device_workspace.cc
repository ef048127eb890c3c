#include "engine/cuda/device_workspace.h"

#include "engine/cuda/block_transfer.h"

namespace crible::cuda {
namespace {

int64_t logits_bytes(const EngineConfig& resolved, const DecoderShape& shape) {
  return step_limits(resolved).max_logit_rows * shape.head_rows() * static_cast<int64_t>(sizeof(float));
}

}  // namespace

MemoryNeeds DeviceWorkspace::needs(const DecoderWeights& weights, const EngineConfig& resolved) {
  const DecoderShape& shape = weights.shape();
  const StepLimits limits = step_limits(resolved);
  const DecoderOptions options = decoder_options(resolved);
  return {.activation_bytes = Decoder::arena_bytes(shape, limits, weights.format()) +
                              Decoder::attention_bytes(shape, limits, options) + Matmul::workspace_bytes() +
                              StepBatch::bytes_for(limits) + logits_bytes(resolved, shape) +
                              DeviceSampler::bytes_for(sampler_limits(resolved, shape.vocabulary, shape.head_rows())),
          .kv_block_bytes = KvPool::bytes_per_block(shape, options.kv_type)};
}

Result<std::unique_ptr<GpuWorkspace>> DeviceWorkspace::create(const CudaStream& stream, const DecoderWeights& weights,
                                                              const RopeTable& rope, const EngineConfig& resolved,
                                                              const MemoryPlan& plan, MatmulChoices& choices) {
  const StepLimits limits = step_limits(resolved);
  const DecoderOptions options = decoder_options(resolved);
  const DecoderShape& shape = weights.shape();
  // The measurement of matmuls wants room of its own: before the KV blocks take what is left.
  CRIBLE_TRY(Decoder decoder, Decoder::create(stream, weights, rope, limits, options, choices));
  choices = decoder.choices();
  CRIBLE_TRY(StepBatch arrays, StepBatch::create(limits));
  CRIBLE_TRY(DeviceBuffer logits, DeviceBuffer::allocate(logits_bytes(resolved, shape)));
  CRIBLE_TRY(DeviceSampler sampler,
             DeviceSampler::create(sampler_limits(resolved, shape.vocabulary, shape.head_rows())));
  CRIBLE_TRY(KvPool pool, KvPool::create(shape, plan.num_blocks, options.kv_type));
  return std::unique_ptr<GpuWorkspace>(new DeviceWorkspace(stream, resolved, std::move(decoder), std::move(pool),
                                                           std::move(arrays), std::move(logits), std::move(sampler)));
}

DeviceWorkspace::DeviceWorkspace(const CudaStream& stream, const EngineConfig& resolved, Decoder decoder, KvPool pool,
                                 StepBatch arrays, DeviceBuffer logits, DeviceSampler sampler)
    : GpuWorkspace(resolved),
      stream_(stream),
      decoder_(std::move(decoder)),
      pool_(std::move(pool)),
      logits_(std::move(logits)),
      sampler_(std::move(sampler)),
      graphs_(decoder_, pool_, std::move(arrays), logits_.as<float>()) {
  graphs_.batch().read_drawn_from(sampler_.device_tokens());
}

Status DeviceWorkspace::copy_blocks(std::span<const BlockCopy> copies) {
  return cuda::copy_blocks(stream_, pool_, copies);
}

Status DeviceWorkspace::forward(const BatchView& view, bool decodes_only) {
  if (decodes_only && graphs_.captured(view.num_sequences)) return graphs_.run(stream_, view);
  StepBatch& arrays = graphs_.batch();
  CRIBLE_RETURN_IF_ERROR(arrays.send(stream_, view));
  if (decodes_only && graphs_.fused(view.num_sequences)) {
    return decoder_.decode_fused(stream_, arrays.device(), pool_, logits_.as<float>());
  }
  CRIBLE_RETURN_IF_ERROR(decoder_.plan(stream_, arrays.plan_input(/*graph=*/false)));
  return decoder_.forward(stream_, arrays.device(), pool_, logits_.as<float>());
}

Result<SampledRows> DeviceWorkspace::sample(std::span<const SampleRow> rows) {
  CRIBLE_RETURN_IF_ERROR(sampler_.send(stream_, rows));
  CRIBLE_RETURN_IF_ERROR(sampler_.enqueue(stream_, logits_.as<float>()));
  return sampler_.fetch_async(stream_);
}

}  // namespace crible::cuda
