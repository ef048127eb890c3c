// Everything on the device that depends on the configuration: KV blocks, activation arena, logits and
// batch arrays. Its size is known before it is allocated; a reconfiguration replaces it whole.
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

class Workspace {
 public:
  // Also reserves the stream's scratch.
  static Result<std::unique_ptr<Workspace>> allocate(const Model& model, const EngineConfig& resolved,
                                                     const MemoryPlan& plan, Stream& stream);

  ForwardBuffers forward_buffers() const;
  Batch& batch() { return batch_; }
  float* logits() const { return logits_.as<float>(); }
  std::span<TokenId> tokens() { return tokens_; }  // sampled, one per row of logits

 private:
  Workspace(const EngineConfig& resolved, const MemoryPlan& plan, const KvShape& shape, Buffer kv, Buffer arena,
            Buffer logits);

  Buffer kv_;
  Buffer arena_;
  Buffer logits_;
  std::vector<KvCacheView> layers_;
  Batch batch_;
  std::vector<TokenId> tokens_;
};

}  // namespace crible
