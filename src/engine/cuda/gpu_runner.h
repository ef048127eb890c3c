// What the runners of one GPU and of several have in common: the weights of every rank, the memory of every GPU, steps
// that are enqueued while the host goes on. The next step may be launched while one runs, with tokens that it draws read
// on the device and counted there in the histories of penalties. Graphs of decode batches are captured while nobody
// waits.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/cuda/cuda_stream.h"
#include "engine/cuda/device_model.h"
#include "engine/cuda/gpu_workspace.h"
#include "engine/step_runner.h"

namespace crible::cuda {

class GpuRunner : public StepRunner {
 public:
  ~GpuRunner() override { release(); }

  const EngineModelInfo& model() const override { return model_.info; }
  KvShape kv_shape() const override;
  MachineLimits machine() const override;
  MemoryNeeds memory_needs(const EngineConfig& resolved) const override;
  Status allocate(const EngineConfig& resolved, const MemoryPlan& plan) override;
  void read_back(EngineConfig& effective) const override;
  Status launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) override;
  Result<StepOutput> collect() override;
  bool runs_ahead() const override { return true; }
  bool keeps_histories() const override { return true; }
  bool prepare() override;
  // content: the ranks' parts of the block one after the other.
  Status read_block(BlockId block, std::span<std::byte> content) const override;
  Status write_block(BlockId block, std::span<const std::byte> content) override;

 protected:
  struct Rank {
    int device;
    CudaStream stream;
    std::array<CudaEvent, 2> ends;  // of steps, used in turn
  };

  GpuRunner(std::vector<Rank> ranks, DeviceModel model) : ranks_(std::move(ranks)), model_(std::move(model)) {}
  static Result<std::vector<Rank>> open_ranks(std::span<const int> devices);
  // What the GPUs have, and what is taken of it beside the weights.
  Status measure_memory();
  Status synchronize() const;
  // Waits for whatever is enqueued, which still uses the workspace, and gives that back. Before what it refers to goes.
  void release();

  int64_t num_ranks() const { return std::ssize(ranks_); }
  std::span<const Rank> ranks() const { return ranks_; }
  const DeviceModel& device_model() const { return model_; }

  // On each GPU, without weights and runtime. weights: a rank's.
  virtual MemoryNeeds workspace_needs(const DecoderWeights& weights, const EngineConfig& resolved) const = 0;
  // choices: what was measured before, and is not again; left with what was measured now.
  virtual Result<std::unique_ptr<GpuWorkspace>> make_workspace(const EngineConfig& resolved, const MemoryPlan& plan,
                                                               MatmulChoices& choices) = 0;
  // Waits until all ranks have come to the end of the step that recorded Rank::ends[event]. After an error the device
  // has failed for good, and nothing on any GPU is left waiting.
  virtual Status wait_for_end(size_t event) = 0;

 private:
  // A step that is not collected.
  struct Flight {
    StepOutput output;
    size_t event;
  };

  std::vector<Rank> ranks_;
  DeviceModel model_;
  int64_t device_bytes_ = 0;   // of the smallest GPU
  int64_t runtime_bytes_ = 0;  // on the GPU where most is taken
  MatmulChoices choices_;      // of all configurations so far
  std::unique_ptr<GpuWorkspace> workspace_;
  size_t next_event_ = 0;
  std::optional<Flight> oldest_, newest_;
};

}  // namespace crible::cuda
