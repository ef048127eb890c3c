// The runner of several GPUs (tensor-parallel-size): one process, one host thread, one rank a GPU. The memory plan is
// that of each GPU. A fault of one GPU ends the whole group: what the others wait for is aborted and collect() says
// which GPU it was, so that no request hangs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/cuda/gpu_group.h"
#include "engine/cuda/gpu_runner.h"

namespace crible::cuda {

class ParallelRunner final : public GpuRunner {
 public:
  static Result<std::unique_ptr<StepRunner>> load(const std::filesystem::path& path, const EngineConfig& requested);
  // The group goes before the other members of a runner.
  ~ParallelRunner() override { release(); }

  std::string arithmetic() const override;

 private:
  ParallelRunner(std::vector<Rank> ranks, GpuGroup group, DeviceModel model)
      : GpuRunner(std::move(ranks), std::move(model)), group_(std::move(group)) {}
  MemoryNeeds workspace_needs(const DecoderWeights& weights, const EngineConfig& resolved) const override;
  Result<std::unique_ptr<GpuWorkspace>> make_workspace(const EngineConfig& resolved, const MemoryPlan& plan,
                                                       MatmulChoices& choices) override;
  // Connects the GPUs, and adds up known numbers over them.
  Status try_out();
  Status wait_for_end(size_t event) override;
  // Polls for faults meanwhile.
  Status poll(size_t event);

  GpuGroup group_;
};

}  // namespace crible::cuda
