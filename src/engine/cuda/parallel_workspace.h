// What DeviceWorkspace is to one GPU, for the ranks of a tensor-parallel group: the divided decoder with its KV
// blocks, and a sampler on every rank. Each rank draws from the same logits with the same parameters, so each has
// the tokens that its next step begins with; the first rank's are brought to the host. Made anew by every change of
// the configuration; a step allocates nothing. Used by one thread.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "config/engine_config.h"
#include "engine/batch.h"
#include "engine/memory_plan.h"
#include "engine/step_runner.h"
#include "model/cuda/tensor_parallel/parallel_decoder.h"
#include "ops/sample/device_sampler_cuda.h"

namespace crible::cuda {

class ParallelWorkspace {
 public:
  // On each GPU, without weights and runtime. weights: a rank's.
  static MemoryNeeds needs(const DecoderWeights& weights, const EngineConfig& resolved);
  // plan: of one GPU; all of them get the same number of blocks.
  static Result<std::unique_ptr<ParallelWorkspace>> create(std::span<const ParallelDecoder::RankPlace> ranks,
                                                           const RopeTable& rope, GpuGroup& group,
                                                           const EngineConfig& resolved, const MemoryPlan& plan);

  // Enqueues a step and the copy of its results, which results() names until the step after the next is enqueued.
  Status enqueue(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies);
  StepOutput results() const;
  Result<bool> capture_next() { return decoder_.capture_next(max_sequences_); }

  const Batch& batch() const { return batch_; }
  const ParallelDecoder& decoder() const { return decoder_; }

 private:
  ParallelWorkspace(const EngineConfig& resolved, ParallelDecoder decoder, std::vector<DeviceSampler> samplers);
  Status sample(std::span<const SampleRow> rows);

  Batch batch_;
  ParallelDecoder decoder_;
  std::vector<DeviceSampler> samplers_;
  SampledRows sampled_;
  bool reports_ = false;
  int64_t max_sequences_;
};

}  // namespace crible::cuda
