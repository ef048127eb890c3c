// The device half of the engine: holds weights, KV blocks and working memory, and computes the tokens that a
// step plans. The engine decides what is computed and what becomes of it; a runner knows no queue and no
// event. One implementation per device (cpu_runner.h, cuda/cuda_runner.h). Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "config/engine_config.h"
#include "config/resolve.h"
#include "engine/engine_service.h"
#include "engine/memory_plan.h"
#include "engine/scheduler.h"
#include "model/model.h"
#include "ops/sample/sample.h"

namespace crible {

// What came of one step, one row per row of logits, in the order of the entries: for each the prompt rows that
// it scores, then the one it samples from. Valid until the launch after the next.
struct StepOutput {
  std::span<const TokenId> tokens;  // -1 where the logits are not finite
  const TokenLogprob* logprobs = nullptr;  // [rows, kLogprobStride]; null if no row asked

  static constexpr int64_t kLogprobStride = 1 + kMaxLogprobs;
  const TokenLogprob* logprobs_of(int64_t row) const {
    return logprobs == nullptr ? nullptr : logprobs + row * kLogprobStride;
  }
};

class StepRunner {
 public:
  virtual ~StepRunner() = default;

  virtual const EngineModelInfo& model() const = 0;
  virtual KvShape kv_shape() const = 0;
  // Memory and cores that settings are resolved against.
  virtual MachineLimits machine() const = 0;
  virtual MemoryNeeds memory_needs(const EngineConfig& resolved) const = 0;

  // Makes everything anew that depends on the configuration; the weights stay. Content of KV blocks is lost.
  // After an error nothing can run until another call succeeds. No step may be in flight.
  virtual Status allocate(const EngineConfig& resolved, const MemoryPlan& plan) = 0;
  // Puts what really runs into the settings that this runner holds.
  virtual void read_back(EngineConfig& effective) const = 0;

  // Begins a step: `copies` of blocks first, then the tokens of the entries behind their computed_tokens. Entries of
  // one token come first. A token id below -1 stands for what the step before drew: -2 - row.
  virtual Status launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) = 0;
  // Waits for the oldest step that was launched and not collected. An error means that the device has failed for good.
  virtual Result<StepOutput> collect() = 0;
  // Whether a second step may be launched before the first is collected.
  virtual bool runs_ahead() const = 0;
  // Whether the penalties of a row (SeenHistory) count a token that the step before draws and the host does not know yet.
  virtual bool keeps_histories() const { return false; }
  // Does a piece of work that makes later steps faster; false if there is none. Called while nobody waits.
  virtual bool prepare() { return false; }

  // The content of one block in all layers, to and from plan.kv_block_bytes bytes of each GPU.
  virtual Status read_block(BlockId block, std::span<std::byte> content) const = 0;
  virtual Status write_block(BlockId block, std::span<const std::byte> content) = 0;
  // What the bits of a result depend on beside the model: "avx2".
  virtual std::string arithmetic() const = 0;
};

// Loads the model for the device that the settings name.
Result<std::unique_ptr<StepRunner>> load_runner(const std::filesystem::path& model, const EngineConfig& requested);

}  // namespace crible
