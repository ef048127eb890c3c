// The exact memory budget of an engine, computed before anything large is allocated:
// weights + activations + runtime + KV blocks <= utilisation × device memory. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "config/engine_config.h"
#include "config/resolve.h"
#include "engine/engine_service.h"

namespace crible {

// What the model and the operations ask for under one resolved configuration, in bytes.
struct MemoryNeeds {
  int64_t weight_bytes = 0;
  int64_t activation_bytes = 0;  // arena, logits, batch arrays and scratch of the largest step
  int64_t kv_block_bytes = 0;    // one block of block-size tokens in all layers
  int64_t runtime_bytes = 0;     // GPU: what the driver and its libraries hold beside
};

// kResourceExhausted with the term that is too large and what to change. A plan that is returned
// holds at least one sequence of max-model-len tokens.
Result<MemoryPlan> plan_memory(const EngineConfig& resolved, const MemoryNeeds& needs);

// Before weights are loaded onto a GPU: whether they can be within its budget, and within what is free of it now.
// requested: as asked for; free_bytes of total_bytes are nobody's.
Status check_weights_fit(const EngineConfig& requested, int64_t weight_bytes, int64_t total_bytes, int64_t free_bytes);

// The plan, and what it settles of the configuration. If neither gpu-memory-utilization nor
// kv-cache-memory-bytes was asked for, the KV cache is of a useful size, not of all that is left: on a CPU
// every page of it is touched before ready. A context that nobody asked for is cut to what that holds. After
// it kv-cache-memory-bytes is what the blocks take. Every change is listed as an adjustment.
Result<MemoryPlan> settle_memory(const EngineConfig& requested, ResolvedConfig& resolved,
                                 const std::function<MemoryNeeds(const EngineConfig&)>& needs);

// One line for the log: every term and their sum.
std::string to_string(const MemoryPlan& plan);

}  // namespace crible
