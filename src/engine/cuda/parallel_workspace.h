// The workspace of a tensor-parallel group: the divided decoder with its KV blocks, and a sampler on every rank. Each
// rank draws from the same logits with the same parameters, so each has the tokens that its next step begins with and the
// same histories; the first rank's are brought to the host.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/cuda/gpu_workspace.h"
#include "engine/memory_plan.h"
#include "model/cuda/tensor_parallel/parallel_decoder.h"

namespace crible::cuda {

class ParallelWorkspace final : public GpuWorkspace {
 public:
  // On each GPU, without weights and runtime. weights: a rank's.
  static MemoryNeeds needs(const DecoderWeights& weights, const EngineConfig& resolved);
  // plan: of one GPU; all of them get the same number of blocks. choices: as in DeviceWorkspace.
  static Result<std::unique_ptr<GpuWorkspace>> create(std::span<const ParallelDecoder::RankPlace> ranks,
                                                      const RopeTable& rope, GpuGroup& group,
                                                      const EngineConfig& resolved, const MemoryPlan& plan,
                                                      MatmulChoices& choices);

  Result<bool> capture_next() override { return decoder_.capture_next(max_sequences()); }
  const KvPool& pool(int64_t rank) const override { return decoder_.pool(rank); }
  const DecoderOptions& options() const override { return decoder_.decoder(0).options(); }

 private:
  ParallelWorkspace(const EngineConfig& resolved, ParallelDecoder decoder, std::vector<DeviceSampler> samplers);
  Status copy_blocks(std::span<const BlockCopy> copies) override;
  Status forward(const BatchView& view, bool decodes_only) override { return decoder_.run(view, decodes_only); }
  Result<SampledRows> sample(std::span<const SampleRow> rows) override;

  ParallelDecoder decoder_;
  std::vector<DeviceSampler> samplers_;
};

}  // namespace crible::cuda
