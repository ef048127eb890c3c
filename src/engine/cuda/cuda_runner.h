// The runner of the GPU. A step is enqueued and the host goes on: the next may be launched while it runs, with
// tokens that it draws read on the device. Graphs of decode batches are captured while nobody waits.
#pragma once

#include <memory>
#include <optional>

#include "device/cuda/cuda_stream.h"
#include "engine/cuda/device_workspace.h"
#include "engine/step_runner.h"
#include "engine/cuda/device_model.h"

namespace crible::cuda {

class CudaRunner final : public StepRunner {
 public:
  static Result<std::unique_ptr<StepRunner>> load(const std::filesystem::path& path, const EngineConfig& requested);
  ~CudaRunner() override;

  const EngineModelInfo& model() const override { return info_; }
  KvShape kv_shape() const override;
  MachineLimits machine() const override;
  MemoryNeeds memory_needs(const EngineConfig& resolved) const override;
  Status allocate(const EngineConfig& resolved, const MemoryPlan& plan) override;
  void read_back(EngineConfig& effective) const override;
  Status launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) override;
  Result<StepOutput> collect() override;
  bool runs_ahead() const override { return true; }
  bool prepare() override;
  Status read_block(BlockId block, std::span<std::byte> content) const override;
  Status write_block(BlockId block, std::span<const std::byte> content) override;
  std::string arithmetic() const override;

 private:
  // A step that is not collected.
  struct Flight {
    StepOutput output;
    size_t event;
  };

  CudaRunner(CudaStream stream, LoadedDecoder decoder, EngineModelInfo info, int64_t device_bytes);

  CudaStream stream_;
  LoadedDecoder decoder_;
  EngineModelInfo info_;
  int64_t device_bytes_;
  int64_t runtime_bytes_ = 0;
  std::unique_ptr<DeviceWorkspace> workspace_;
  std::vector<CudaEvent> events_;  // two, used in turn
  size_t next_event_ = 0;
  std::optional<Flight> oldest_, newest_;
};

}  // namespace crible::cuda
