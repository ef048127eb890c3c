#include "engine/memory_plan.h"

#include "base/units.h"

namespace crible {
namespace {

Status check_fixed_terms(const EngineConfig& resolved, const MemoryPlan& plan) {
  if (plan.weight_bytes >= plan.budget_bytes) {
    return fail(ErrorCode::kResourceExhausted,
                "the weights take {} but gpu-memory-utilization {} of device-memory-bytes {} is {}; raise either, or "
                "use a smaller model",
                format_bytes(plan.weight_bytes), resolved.gpu_memory_utilization, format_bytes(plan.device_bytes),
                format_bytes(plan.budget_bytes));
  }
  if (plan.weight_bytes + plan.activation_bytes >= plan.budget_bytes) {
    return fail(ErrorCode::kResourceExhausted,
                "the activations of a step of {} tokens take {} but {} of the budget of {} are left after the weights; "
                "lower max-num-batched-tokens or max-num-seqs, or raise gpu-memory-utilization or device-memory-bytes",
                resolved.max_num_batched_tokens, format_bytes(plan.activation_bytes),
                format_bytes(plan.budget_bytes - plan.weight_bytes), format_bytes(plan.budget_bytes));
  }
  return {};
}

}  // namespace

Result<MemoryPlan> plan_memory(const EngineConfig& resolved, const MemoryNeeds& needs) {
  MemoryPlan plan;
  plan.device_bytes = resolved.device_memory_bytes;
  plan.budget_bytes =
      static_cast<int64_t>(resolved.gpu_memory_utilization * static_cast<double>(plan.device_bytes));
  plan.weight_bytes = needs.weight_bytes;
  plan.activation_bytes = needs.activation_bytes;
  plan.kv_block_bytes = needs.kv_block_bytes;
  CRIBLE_RETURN_IF_ERROR(check_fixed_terms(resolved, plan));

  const int64_t left = plan.budget_bytes - plan.weight_bytes - plan.activation_bytes;
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

std::string to_string(const MemoryPlan& plan) {
  return fmt::format("weights {} + activations {} + KV cache {} ({} blocks of {}) = {} of a budget of {}",
                     format_bytes(plan.weight_bytes), format_bytes(plan.activation_bytes),
                     format_bytes(plan.kv_bytes), plan.num_blocks, format_bytes(plan.kv_block_bytes),
                     format_bytes(plan.planned_bytes()), format_bytes(plan.budget_bytes));
}

}  // namespace crible
