#include "engine/cuda/parallel_workspace.h"

#include <algorithm>

#include "device/cuda/device_scope.h"
#include "engine/cuda/block_transfer.h"
#include "engine/cuda/device_workspace.h"
#include "engine/workspace.h"

namespace crible::cuda {

MemoryNeeds ParallelWorkspace::needs(const DecoderWeights& weights, const EngineConfig& resolved) {
  const DecoderShape& shape = weights.shape();
  const DecoderOptions options = decoder_options(resolved);
  return {.activation_bytes =
              ParallelDecoder::bytes_for(shape, weights.format(), step_limits(resolved), options) +
              DeviceSampler::bytes_for(sampler_limits(resolved, shape.vocabulary, shape.vocabulary)),
          .kv_block_bytes = KvPool::bytes_per_block(shape, options.kv_type)};
}

Result<std::unique_ptr<ParallelWorkspace>> ParallelWorkspace::create(
    std::span<const ParallelDecoder::RankPlace> ranks, const RopeTable& rope, GpuGroup& group,
    const EngineConfig& resolved, const MemoryPlan& plan) {
  CRIBLE_TRY(ParallelDecoder decoder, ParallelDecoder::create(ranks, rope, group, step_limits(resolved),
                                                              decoder_options(resolved), plan.num_blocks));
  std::vector<DeviceSampler> samplers;
  for (const ParallelDecoder::RankPlace& rank : ranks) {
    const DeviceScope scope(rank.device);
    const int64_t vocabulary = rank.weights->shape().vocabulary;
    CRIBLE_TRY(DeviceSampler sampler,
               DeviceSampler::create(sampler_limits(resolved, vocabulary, vocabulary)));
    samplers.push_back(std::move(sampler));
  }
  return std::unique_ptr<ParallelWorkspace>(
      new ParallelWorkspace(resolved, std::move(decoder), std::move(samplers)));
}

ParallelWorkspace::ParallelWorkspace(const EngineConfig& resolved, ParallelDecoder decoder,
                                     std::vector<DeviceSampler> samplers)
    : batch_(batch_limits(resolved)),
      decoder_(std::move(decoder)),
      samplers_(std::move(samplers)),
      max_sequences_(resolved.max_num_seqs) {
  for (size_t r = 0; r < samplers_.size(); ++r) {
    decoder_.read_drawn_from(static_cast<int64_t>(r), samplers_[r].device_tokens());
  }
}

Status ParallelWorkspace::enqueue(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
  if (!copies.empty()) {
    for (int64_t r = 0; r < decoder_.ranks(); ++r) {
      const DeviceScope scope(decoder_.device(r));
      CRIBLE_RETURN_IF_ERROR(copy_blocks(decoder_.stream(r), decoder_.pool(r), copies));
    }
  }
  const BatchView view = batch_.build(entries);
  const auto rows = batch_.sample_rows();
  // Alone, a sampled token has one row; a scored prompt of one token has another.
  const bool decodes_only = std::ranges::all_of(entries, [](const ScheduledSequence& entry) {
    return entry.num_tokens == 1 && entry.samples;
  }) && std::ssize(rows) == view.num_sequences;
  CRIBLE_RETURN_IF_ERROR(decoder_.run(view, decodes_only));
  if (rows.empty()) {
    sampled_ = {};
    return {};
  }
  reports_ = batch_.reports();
  return sample(rows);
}

Status ParallelWorkspace::sample(std::span<const SampleRow> rows) {
  for (int64_t r = 0; r < decoder_.ranks(); ++r) {
    const DeviceScope scope(decoder_.device(r));
    DeviceSampler& sampler = samplers_[static_cast<size_t>(r)];
    const CudaStream& stream = decoder_.stream(r);
    CRIBLE_RETURN_IF_ERROR(sampler.send(stream, rows));
    CRIBLE_RETURN_IF_ERROR(sampler.enqueue(stream, decoder_.logits(r)));
    if (r > 0) continue;
    CRIBLE_TRY(sampled_, sampler.fetch_async(stream));
  }
  return {};
}

StepOutput ParallelWorkspace::results() const {
  return {.tokens = sampled_.tokens, .logprobs = reports_ ? sampled_.logprobs : nullptr};
}

}  // namespace crible::cuda
