// Everything on the device that depends on the configuration: KV blocks, activation arena and logits,
// in one allocation of a size known beforehand, and the batch arrays. A reconfiguration replaces the
// workspace but takes its memory over where it suffices: to fault gigabytes in again takes seconds.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "config/engine_config.h"
#include "device/buffer.h"
#include "device/stream.h"
#include "engine/batch.h"
#include "engine/memory_plan.h"
#include "model/model.h"

namespace crible {

// What the plan needs to know of this model under this configuration.
MemoryNeeds memory_needs(const Model& model, const EngineConfig& resolved);
BatchLimits batch_limits(const EngineConfig& resolved);
// Rows of logits of a step that may score prompts.
int64_t max_scoring_rows(const EngineConfig& resolved);

class Workspace {
 public:
  // `former` is the memory of the workspace before, or empty: used again if it is large enough and not
  // twice too large, else freed before the new is allocated. Also reserves the stream's scratch.
  static Result<std::unique_ptr<Workspace>> allocate(const Model& model, const EngineConfig& resolved,
                                                     const MemoryPlan& plan, Stream& stream, Buffer former);
  // Leaves the workspace unusable.
  Buffer release_memory() { return std::move(memory_); }

  ForwardBuffers forward_buffers() const;
  // In all layers, before the step that reads them.
  void copy_blocks(std::span<const BlockCopy> copies);
  int64_t kv_block_bytes() const { return std::ssize(layers_) * 2 * half_block_bytes_; }
  int64_t num_blocks() const { return layers_.front().num_blocks; }
  std::string_view kv_cache_dtype() const;  // as the setting of that name has it
  // The content of one block in all layers, to and from plan.kv_block_bytes bytes.
  void read_block(BlockId block, std::span<std::byte> content) const;
  void write_block(BlockId block, std::span<const std::byte> content);
  Batch& batch() { return batch_; }
  float* logits() const { return logits_; }
  std::span<TokenId> tokens() { return tokens_; }  // sampled, one per row of logits
  // Of one row of logits and, behind them, the following rows, kLogprobStride apart.
  TokenLogprob* logprobs_of(int64_t row) { return logprobs_.data() + row * kLogprobStride; }
  static constexpr int64_t kLogprobStride = 1 + kMaxLogprobs;  // StepOutput's

 private:
  Workspace(const Model& model, const EngineConfig& resolved, const MemoryPlan& plan, Buffer memory);

  Buffer memory_;  // KV blocks, arena, logits
  std::span<std::byte> arena_;
  float* logits_;
  int64_t half_block_bytes_;  // keys, or values, of one block in one layer
  std::vector<KvCacheView> layers_;
  Batch batch_;
  std::vector<TokenId> tokens_;
  std::vector<TokenLogprob> logprobs_;
};

}  // namespace crible
