#include "engine/cuda/parallel_workspace.h"

#include "device/cuda/device_scope.h"
#include "engine/cuda/block_transfer.h"

namespace crible::cuda {

MemoryNeeds ParallelWorkspace::needs(const DecoderWeights& weights, const EngineConfig& resolved) {
  const DecoderShape& shape = weights.shape();
  const DecoderOptions options = decoder_options(resolved);
  return {.activation_bytes =
              ParallelDecoder::bytes_for(shape, weights.format(), step_limits(resolved), options) +
              DeviceSampler::bytes_for(sampler_limits(resolved, shape.vocabulary, shape.vocabulary)),
          .kv_block_bytes = KvPool::bytes_per_block(shape, options.kv_type)};
}

Result<std::unique_ptr<GpuWorkspace>> ParallelWorkspace::create(
    std::span<const ParallelDecoder::RankPlace> ranks, const RopeTable& rope, GpuGroup& group,
    const EngineConfig& resolved, const MemoryPlan& plan, MatmulChoices& choices) {
  CRIBLE_TRY(ParallelDecoder decoder, ParallelDecoder::create(ranks, rope, group, step_limits(resolved),
                                                              decoder_options(resolved), plan.num_blocks, choices));
  choices = decoder.choices();
  std::vector<DeviceSampler> samplers;
  for (const ParallelDecoder::RankPlace& rank : ranks) {
    const DeviceScope scope(rank.device);
    const int64_t vocabulary = rank.weights->shape().vocabulary;
    CRIBLE_TRY(DeviceSampler sampler,
               DeviceSampler::create(sampler_limits(resolved, vocabulary, vocabulary)));
    samplers.push_back(std::move(sampler));
  }
  return std::unique_ptr<GpuWorkspace>(
      new ParallelWorkspace(resolved, std::move(decoder), std::move(samplers)));
}

ParallelWorkspace::ParallelWorkspace(const EngineConfig& resolved, ParallelDecoder decoder,
                                     std::vector<DeviceSampler> samplers)
    : GpuWorkspace(resolved), decoder_(std::move(decoder)), samplers_(std::move(samplers)) {
  for (size_t r = 0; r < samplers_.size(); ++r) {
    decoder_.read_drawn_from(static_cast<int64_t>(r), samplers_[r].device_tokens());
  }
}

Status ParallelWorkspace::copy_blocks(std::span<const BlockCopy> copies) {
  for (int64_t r = 0; r < decoder_.ranks(); ++r) {
    const DeviceScope scope(decoder_.device(r));
    CRIBLE_RETURN_IF_ERROR(cuda::copy_blocks(decoder_.stream(r), decoder_.pool(r), copies));
  }
  return {};
}

Result<SampledRows> ParallelWorkspace::sample(std::span<const SampleRow> rows) {
  SampledRows sampled;
  for (int64_t r = 0; r < decoder_.ranks(); ++r) {
    const DeviceScope scope(decoder_.device(r));
    DeviceSampler& sampler = samplers_[static_cast<size_t>(r)];
    const CudaStream& stream = decoder_.stream(r);
    CRIBLE_RETURN_IF_ERROR(sampler.send(stream, rows));
    CRIBLE_RETURN_IF_ERROR(sampler.enqueue(stream, decoder_.logits(r)));
    if (r > 0) continue;
    CRIBLE_TRY(sampled, sampler.fetch_async(stream));
  }
  return sampled;
}

}  // namespace crible::cuda
