// The runner of the CPU: one model, one stream of threads, one workspace.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "device/stream.h"
#include "engine/step_runner.h"
#include "engine/workspace.h"
#include "model/model.h"

namespace crible {

class CpuRunner final : public StepRunner {
 public:
  // On a CPU a step has run when launch() returns, so running ahead gains nothing; kAhead lets tests see what
  // it changes.
  enum class Pace { kInStep, kAhead };
  CpuRunner(std::unique_ptr<const Model> model, Stream stream, Pace pace = Pace::kInStep);
  static Result<std::unique_ptr<StepRunner>> load(const std::filesystem::path& path, const EngineConfig& requested);

  const EngineModelInfo& model() const override { return info_; }
  KvShape kv_shape() const override { return model_->kv_shape(); }
  MachineLimits machine() const override { return this_machine(); }
  MemoryNeeds memory_needs(const EngineConfig& resolved) const override;
  Status allocate(const EngineConfig& resolved, const MemoryPlan& plan) override;
  void read_back(EngineConfig& effective) const override;
  Status launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) override;
  Result<StepOutput> collect() override;
  bool runs_ahead() const override { return pace_ == Pace::kAhead; }
  bool keeps_histories() const override { return pace_ == Pace::kAhead; }
  Status read_block(BlockId block, std::span<std::byte> content) const override;
  Status write_block(BlockId block, std::span<const std::byte> content) override;
  std::string arithmetic() const override { return std::string(cpu_isa_name(stream_.isa())); }

 private:
  // What a step drew, kept while the next one runs.
  struct KeptOutput {
    std::vector<TokenId> tokens;
    std::vector<TokenLogprob> logprobs;
  };

  std::unique_ptr<const Model> model_;
  Stream stream_;
  Pace pace_;
  EngineModelInfo info_;
  std::unique_ptr<Workspace> workspace_;
  StepOutput output_;  // of the step last launched
  // kAhead only: of the step last collected, then of those that are not.
  std::deque<KeptOutput> kept_;
  size_t uncollected_ = 0;
};

}  // namespace crible
