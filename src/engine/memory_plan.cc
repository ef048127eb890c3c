#include "engine/memory_plan.h"

#include <algorithm>

#include "base/units.h"

namespace crible {
namespace {

constexpr int64_t kUsefulContextTokens = 512;
constexpr int64_t kMostDefaultKvBytes = kGiB;

int64_t budget_of(const EngineConfig& c) {
  return static_cast<int64_t>(c.gpu_memory_utilization * static_cast<double>(c.device_memory_bytes));
}

Status check_fixed_terms(const EngineConfig& resolved, const MemoryPlan& plan) {
  const int64_t fixed = plan.weight_bytes + plan.runtime_bytes;
  if (fixed >= plan.budget_bytes) {
    return fail(ErrorCode::kResourceExhausted,
                "the weights take {}{} but gpu-memory-utilization {} of device-memory-bytes {} is {}; raise either, or "
                "use a smaller model",
                format_bytes(plan.weight_bytes),
                plan.runtime_bytes == 0 ? "" : fmt::format(" and the GPU's runtime {}", format_bytes(plan.runtime_bytes)), resolved.gpu_memory_utilization, format_bytes(plan.device_bytes),
                format_bytes(plan.budget_bytes));
  }
  if (fixed + plan.activation_bytes >= plan.budget_bytes) {
    return fail(ErrorCode::kResourceExhausted,
                "the activations of a step of {} tokens take {} but {} of the budget of {} are left after the weights; "
                "lower max-num-batched-tokens or max-num-seqs, or raise gpu-memory-utilization or device-memory-bytes",
                resolved.max_num_batched_tokens, format_bytes(plan.activation_bytes),
                format_bytes(plan.budget_bytes - fixed), format_bytes(plan.budget_bytes));
  }
  return {};
}

// What does not fit at all is left to plan_memory, which says why.
void choose_kv_memory(const EngineConfig& requested, ResolvedConfig& resolved, const MemoryNeeds& needs) {
  const EngineConfig& c = resolved.config;
  const int64_t budget = budget_of(c);
  const int64_t left = budget - needs.weight_bytes - needs.activation_bytes;
  const int64_t useful_tokens = std::max(c.max_num_seqs * kUsefulContextTokens, c.max_model_len);
  const int64_t useful_blocks = ceil_div(useful_tokens, c.block_size);
  const int64_t longest_blocks = ceil_div(c.max_model_len, c.block_size);
  int64_t blocks = std::min({useful_blocks, kMostDefaultKvBytes / needs.kv_block_bytes, left / needs.kv_block_bytes});
  if (requested.max_model_len > 0) blocks = std::max(blocks, longest_blocks);
  if (blocks <= 0) return;
  resolved.adjust(&EngineConfig::kv_cache_memory_bytes, blocks * needs.kv_block_bytes, "kv-cache-memory-bytes",
                  fmt::format("enough for max-num-seqs {} sequences of {} tokens or one of max-model-len, at most {}; all "
                              "of it is touched before ready, so ask for more only if prefixes are to stay",
                              c.max_num_seqs, kUsefulContextTokens, format_bytes(kMostDefaultKvBytes)));
  if (blocks < longest_blocks) {
    resolved.adjust(&EngineConfig::max_model_len, blocks * c.block_size, "max-model-len",
                    "what the KV cache holds of the model's context; raise kv-cache-memory-bytes for more");
  }
}

}  // namespace

Result<MemoryPlan> plan_memory(const EngineConfig& resolved, const MemoryNeeds& needs) {
  MemoryPlan plan;
  plan.device_bytes = resolved.device_memory_bytes;
  plan.budget_bytes = budget_of(resolved);
  plan.weight_bytes = needs.weight_bytes;
  plan.activation_bytes = needs.activation_bytes;
  plan.runtime_bytes = needs.runtime_bytes;
  plan.kv_block_bytes = needs.kv_block_bytes;
  CRIBLE_RETURN_IF_ERROR(check_fixed_terms(resolved, plan));

  const int64_t left = plan.budget_bytes - plan.weight_bytes - plan.runtime_bytes - plan.activation_bytes;
  const int64_t stated = resolved.kv_cache_memory_bytes;
  if (stated > left) {
    return fail(ErrorCode::kResourceExhausted,
                "kv-cache-memory-bytes is {} but {} of the budget of {} are left after weights ({}) and activations "
                "({}); lower it, or raise gpu-memory-utilization or device-memory-bytes",
                format_bytes(stated), format_bytes(left), format_bytes(plan.budget_bytes),
                format_bytes(plan.weight_bytes), format_bytes(plan.activation_bytes));
  }
  plan.num_blocks = (stated > 0 ? stated : left) / plan.kv_block_bytes;
  plan.kv_bytes = plan.num_blocks * plan.kv_block_bytes;
  const int64_t capacity_tokens = plan.num_blocks * resolved.block_size;
  if (capacity_tokens < resolved.max_model_len) {
    return fail(ErrorCode::kResourceExhausted,
                "the KV cache has {} for {} tokens but one sequence of max-model-len {} needs {}; lower max-model-len "
                "to at most {}, or raise {}",
                format_bytes(plan.kv_bytes), capacity_tokens, resolved.max_model_len,
                format_bytes(ceil_div(resolved.max_model_len, resolved.block_size) * plan.kv_block_bytes),
                capacity_tokens,
                stated > 0 ? "kv-cache-memory-bytes" : "gpu-memory-utilization or device-memory-bytes");
  }
  return plan;
}

Status check_weights_fit(const EngineConfig& requested, int64_t weight_bytes, int64_t total_bytes,
                         int64_t free_bytes) {
  EngineConfig config = requested;
  if (config.gpu_memory_utilization == 0) config.gpu_memory_utilization = kDefaultUtilization;
  if (config.device_memory_bytes == 0) config.device_memory_bytes = total_bytes;
  const MemoryPlan plan = {.device_bytes = config.device_memory_bytes,
                           .budget_bytes = budget_of(config),
                           .weight_bytes = weight_bytes};
  CRIBLE_RETURN_IF_ERROR(check_fixed_terms(config, plan));
  if (weight_bytes <= free_bytes) return {};
  return fail(ErrorCode::kResourceExhausted,
              "the weights take {} but {} of the GPU's {} are free: other programs hold the rest (nvidia-smi lists "
              "them); end them, or choose another GPU with CUDA_VISIBLE_DEVICES",
              format_bytes(weight_bytes), format_bytes(free_bytes), format_bytes(total_bytes));
}

Result<MemoryPlan> settle_memory(const EngineConfig& requested, ResolvedConfig& resolved,
                                 const std::function<MemoryNeeds(const EngineConfig&)>& needs) {
  const bool on_cpu = resolved.config.device != "cuda";
  if (on_cpu && requested.gpu_memory_utilization == 0 && requested.kv_cache_memory_bytes == 0) {
    choose_kv_memory(requested, resolved, needs(resolved.config));
  }
  CRIBLE_TRY(const MemoryPlan plan, plan_memory(resolved.config, needs(resolved.config)));
  resolved.adjust(&EngineConfig::kv_cache_memory_bytes, plan.kv_bytes, "kv-cache-memory-bytes",
                  resolved.config.kv_cache_memory_bytes == 0 ? "what gpu-memory-utilization leaves, in whole blocks"
                                                             : "whole blocks");
  return plan;
}

std::string to_string(const MemoryPlan& plan) {
  return fmt::format("weights {} + activations {}{} + KV cache {} ({} blocks of {}) = {} of a budget of {}",
                     format_bytes(plan.weight_bytes), format_bytes(plan.activation_bytes),
                     plan.runtime_bytes == 0 ? "" : fmt::format(" + runtime {}", format_bytes(plan.runtime_bytes)),
                     format_bytes(plan.kv_bytes), plan.num_blocks, format_bytes(plan.kv_block_bytes),
                     format_bytes(plan.planned_bytes()), format_bytes(plan.budget_bytes));
}

}  // namespace crible
