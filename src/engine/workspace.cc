#include "engine/workspace.h"

#include <algorithm>

#include "ops/sample/sample.h"

namespace crible {
namespace {

constexpr int64_t kSliceAlignment = 64;  // bytes

DType kv_dtype(const EngineConfig& resolved) {
  return resolved.kv_cache_dtype == "f32" ? DType::kF32 : DType::kF16;
}

StepLimits step_limits(const EngineConfig& resolved) {
  return {.max_tokens = resolved.max_num_batched_tokens, .max_logit_rows = resolved.max_num_seqs};
}

int64_t scratch_bytes(const Model& model, const EngineConfig& resolved) {
  const auto threads = static_cast<int>(resolved.threads);
  return std::max(model.scratch_bytes(step_limits(resolved), threads),
                  sample_scratch_bytes(resolved.max_num_seqs, model.info().vocabulary, threads));
}

int64_t logits_bytes(const Model& model, const EngineConfig& resolved) {
  return resolved.max_num_seqs * model.info().vocabulary * static_cast<int64_t>(sizeof(float));
}

int64_t arena_bytes(const Model& model, const EngineConfig& resolved) {
  return round_up(model.arena_bytes(step_limits(resolved)), kSliceAlignment);
}

}  // namespace

BatchLimits batch_limits(const EngineConfig& resolved) {
  return {.max_tokens = resolved.max_num_batched_tokens,
          .max_sequences = resolved.max_num_seqs,
          .max_context = resolved.max_model_len,
          .block_size = resolved.block_size};
}

MemoryNeeds memory_needs(const Model& model, const EngineConfig& resolved) {
  const KvShape kv = model.kv_shape();
  return {.weight_bytes = model.weight_bytes(),
          .activation_bytes = arena_bytes(model, resolved) + scratch_bytes(model, resolved) +
                              logits_bytes(model, resolved) + Batch::bytes(batch_limits(resolved)) + kSliceAlignment,
          .kv_block_bytes = kv.layers * kv_cache_block_bytes(kv_dtype(resolved), resolved.block_size, kv.kv_heads,
                                                             kv.head_size)};
}

Result<std::unique_ptr<Workspace>> Workspace::allocate(const Model& model, const EngineConfig& resolved,
                                                       const MemoryPlan& plan, Stream& stream, Buffer former) {
  CRIBLE_RETURN_IF_ERROR(stream.reserve_scratch(scratch_bytes(model, resolved)));
  const int64_t bytes = round_up(plan.kv_bytes, kSliceAlignment) + arena_bytes(model, resolved) +
                        logits_bytes(model, resolved);
  Buffer memory = std::move(former);
  if (memory.bytes() < bytes || memory.bytes() / 2 > bytes) {
    { const Buffer freed = std::move(memory); }
    CRIBLE_TRY(memory, Buffer::allocate(bytes));
  }
  return std::unique_ptr<Workspace>(new Workspace(model, resolved, plan, std::move(memory)));
}

Workspace::Workspace(const Model& model, const EngineConfig& resolved, const MemoryPlan& plan, Buffer memory)
    : memory_(std::move(memory)),
      batch_(batch_limits(resolved)),
      tokens_(static_cast<size_t>(resolved.max_num_seqs)) {
  const KvShape shape = model.kv_shape();
  const int64_t layer_bytes = plan.num_blocks * plan.kv_block_bytes / shape.layers;
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    std::byte* k = memory_.as<std::byte>() + layer * layer_bytes;
    layers_.push_back({.k = k,
                       .v = k + layer_bytes / 2,
                       .dtype = kv_dtype(resolved),
                       .num_blocks = plan.num_blocks,
                       .block_size = resolved.block_size,
                       .kv_heads = shape.kv_heads,
                       .head_size = shape.head_size});
  }
  std::byte* after_blocks = memory_.as<std::byte>() + round_up(plan.kv_bytes, kSliceAlignment);
  arena_ = {after_blocks, static_cast<size_t>(arena_bytes(model, resolved))};
  logits_ = reinterpret_cast<float*>(after_blocks + arena_.size());
}

ForwardBuffers Workspace::forward_buffers() const { return {.cache = layers_, .arena = arena_, .logits = logits_}; }

}  // namespace crible
