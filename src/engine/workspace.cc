#include "engine/workspace.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ops/sample/sample.h"

namespace crible {
namespace {

constexpr int64_t kSliceAlignment = 64;  // bytes

// The element types of a cache, by the names that kv-cache-dtype has for them once "auto" is resolved.
struct NamedType {
  std::string_view name;
  DType dtype;
};
constexpr NamedType kCacheTypes[] = {
    {"f16", DType::kF16}, {"f32", DType::kF32}, {"bf16", DType::kBF16}, {"int8", DType::kI8}};

DType kv_dtype(const EngineConfig& resolved) {
  const auto type = std::ranges::find(kCacheTypes, resolved.kv_cache_dtype, &NamedType::name);
  CHECK(type != std::end(kCacheTypes), "kv-cache-dtype {} is in no table", resolved.kv_cache_dtype);
  return type->dtype;
}

int64_t max_logit_rows(const EngineConfig& resolved) { return resolved.max_num_seqs + max_scoring_rows(resolved); }

StepLimits step_limits(const EngineConfig& resolved) {
  return {.max_tokens = resolved.max_num_batched_tokens, .max_logit_rows = max_logit_rows(resolved)};
}

int64_t scratch_bytes(const Model& model, const EngineConfig& resolved) {
  const auto threads = static_cast<int>(resolved.threads);
  return std::max(model.scratch_bytes(step_limits(resolved), threads),
                  sample_scratch_bytes(max_logit_rows(resolved), model.info().vocabulary, threads));
}

int64_t logits_bytes(const Model& model, const EngineConfig& resolved) {
  return max_logit_rows(resolved) * model.info().vocabulary * static_cast<int64_t>(sizeof(float));
}

// What is sampled from the rows of logits.
int64_t sampled_bytes(const EngineConfig& resolved) {
  return max_logit_rows(resolved) *
         static_cast<int64_t>(sizeof(TokenId) + Workspace::kLogprobStride * sizeof(TokenLogprob));
}

int64_t arena_bytes(const Model& model, const EngineConfig& resolved) {
  return round_up(model.arena_bytes(step_limits(resolved)), kSliceAlignment);
}

}  // namespace

// A few at a time: each costs a row of the vocabulary's size, and more would not make the matrix product with the
// head any faster.
int64_t max_scoring_rows(const EngineConfig& resolved) {
  constexpr int64_t kMost = 64;
  return std::min(kMost, resolved.max_num_batched_tokens);
}

BatchLimits batch_limits(const EngineConfig& resolved) {
  return {.max_tokens = resolved.max_num_batched_tokens,
          .max_sequences = resolved.max_num_seqs,
          .max_scoring_rows = max_scoring_rows(resolved),
          .max_context = resolved.max_model_len,
          .block_size = resolved.block_size};
}

MemoryNeeds memory_needs(const Model& model, const EngineConfig& resolved) {
  const KvShape kv = model.kv_shape();
  return {.weight_bytes = model.weight_bytes(),
          .activation_bytes = arena_bytes(model, resolved) + scratch_bytes(model, resolved) +
                              logits_bytes(model, resolved) + sampled_bytes(resolved) +
                              Batch::bytes(batch_limits(resolved)) + kSliceAlignment,
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
    CRIBLE_TRY(memory, Buffer::allocate(bytes, &stream.pool()));
  }
  return std::unique_ptr<Workspace>(new Workspace(model, resolved, plan, std::move(memory)));
}

Workspace::Workspace(const Model& model, const EngineConfig& resolved, const MemoryPlan& plan, Buffer memory)
    : memory_(std::move(memory)),
      batch_(batch_limits(resolved)),
      tokens_(static_cast<size_t>(max_logit_rows(resolved))),
      logprobs_(static_cast<size_t>(max_logit_rows(resolved) * kLogprobStride)) {
  const KvShape shape = model.kv_shape();
  const int64_t layer_bytes = plan.num_blocks * plan.kv_block_bytes / shape.layers;
  half_block_bytes_ = plan.kv_block_bytes / shape.layers / 2;
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

void Workspace::copy_blocks(std::span<const BlockCopy> copies) {
  for (const BlockCopy& copy : copies) {
    for (const KvCacheView& layer : layers_) {
      for (void* base : {layer.k, layer.v}) {
        auto* bytes = static_cast<std::byte*>(base);
        std::memcpy(bytes + copy.to.value * half_block_bytes_, bytes + copy.from.value * half_block_bytes_,
                    static_cast<size_t>(half_block_bytes_));
      }
    }
  }
}

void Workspace::read_block(BlockId block, std::span<std::byte> content) const {
  CHECK(std::ssize(content) == kv_block_bytes(), "a block has {} bytes", content.size());
  std::byte* out = content.data();
  for (const KvCacheView& layer : layers_) {
    for (const void* base : {layer.k, layer.v}) {
      const auto* from = static_cast<const std::byte*>(base) + block.value * half_block_bytes_;
      out = std::copy_n(from, half_block_bytes_, out);
    }
  }
}

void Workspace::write_block(BlockId block, std::span<const std::byte> content) {
  CHECK(std::ssize(content) == kv_block_bytes(), "a block has {} bytes", content.size());
  const std::byte* from = content.data();
  for (const KvCacheView& layer : layers_) {
    for (void* base : {layer.k, layer.v}) {
      std::copy_n(from, half_block_bytes_, static_cast<std::byte*>(base) + block.value * half_block_bytes_);
      from += half_block_bytes_;
    }
  }
}

std::string_view Workspace::kv_cache_dtype() const {
  return std::ranges::find(kCacheTypes, layers_.front().dtype, &NamedType::dtype)->name;
}

ForwardBuffers Workspace::forward_buffers() const { return {.cache = layers_, .arena = arena_, .logits = logits_}; }

}  // namespace crible
