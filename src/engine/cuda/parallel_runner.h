// The runner of several GPUs (tensor-parallel-size): one process, one host thread, one rank a GPU. The memory plan is
// that of each GPU. A fault of one GPU ends the whole group: what the others wait for is aborted and collect() says
// which GPU it was, so that no request hangs.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "device/cuda/cuda_stream.h"
#include "device/cuda/gpu_group.h"
#include "engine/cuda/device_model.h"
#include "engine/cuda/parallel_workspace.h"
#include "engine/step_runner.h"

namespace crible::cuda {

class ParallelRunner final : public StepRunner {
 public:
  static Result<std::unique_ptr<StepRunner>> load(const std::filesystem::path& path, const EngineConfig& requested);
  ~ParallelRunner() override;

  const EngineModelInfo& model() const override { return model_.info; }
  KvShape kv_shape() const override;
  MachineLimits machine() const override;
  MemoryNeeds memory_needs(const EngineConfig& resolved) const override;
  Status allocate(const EngineConfig& resolved, const MemoryPlan& plan) override;
  void read_back(EngineConfig& effective) const override;
  Status launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) override;
  Result<StepOutput> collect() override;
  bool runs_ahead() const override { return true; }
  bool prepare() override;
  // content: the ranks' parts of the block one after the other.
  Status read_block(BlockId block, std::span<std::byte> content) const override;
  Status write_block(BlockId block, std::span<const std::byte> content) override;
  std::string arithmetic() const override;

 private:
  struct Flight {
    StepOutput output;
    size_t event;
  };
  struct Rank {
    int device;
    CudaStream stream;
    std::array<CudaEvent, 2> ends;  // of steps, used in turn
  };

  ParallelRunner(std::vector<Rank> ranks, GpuGroup group, DeviceModel model)
      : ranks_(std::move(ranks)), group_(std::move(group)), model_(std::move(model)) {}
  int64_t num_ranks() const { return std::ssize(ranks_); }
  // Connects the GPUs, and adds up known numbers over them.
  Status try_out();
  Status measure_memory();
  // Waits until all ranks have come to the end of that step; polls for faults meanwhile.
  Status wait(size_t event);
  Status synchronize() const;

  std::vector<Rank> ranks_;
  GpuGroup group_;
  DeviceModel model_;
  int64_t device_bytes_ = 0;   // of the smallest GPU
  int64_t runtime_bytes_ = 0;  // on the GPU where most is taken
  std::unique_ptr<ParallelWorkspace> workspace_;
  size_t next_event_ = 0;
  std::optional<Flight> oldest_, newest_;
};

}  // namespace crible::cuda
