// The runner of one GPU.
#pragma once

#include <memory>
#include <string>

#include "engine/cuda/gpu_runner.h"

namespace crible::cuda {

class CudaRunner final : public GpuRunner {
 public:
  static Result<std::unique_ptr<StepRunner>> load(const std::filesystem::path& path, const EngineConfig& requested);

  std::string arithmetic() const override;

 private:
  CudaRunner(std::vector<Rank> ranks, DeviceModel model) : GpuRunner(std::move(ranks), std::move(model)) {}
  MemoryNeeds workspace_needs(const DecoderWeights& weights, const EngineConfig& resolved) const override;
  Result<std::unique_ptr<GpuWorkspace>> make_workspace(const EngineConfig& resolved, const MemoryPlan& plan,
                                                       MatmulChoices& choices) override;
  Status wait_for_end(size_t event) override { return ranks()[0].ends[event].synchronize(); }
};

}  // namespace crible::cuda
