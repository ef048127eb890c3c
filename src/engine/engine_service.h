// The engine as the rest of the program sees it: one thread owns scheduler and device and runs
// Engine::step() while there is work; every method here may be called from any thread and exchanges
// messages with that thread through a queue.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/engine_config.h"
#include "config/resolve.h"
#include "engine/request.h"

namespace crible {

struct EngineModelInfo {
  std::string architecture;    // "llama"
  std::string quantization;    // dominant type of the matrices, "Q4_1"
  std::string path;
  int64_t parameters = 0;
  int64_t weight_bytes = 0;    // in device memory
  int64_t context_length = 0;
  int64_t vocabulary = 0;
  int64_t layers = 0;
};

// The exact budget, computed before ready (memory_plan.h).
struct MemoryPlan {
  int64_t device_bytes = 0;       // device-memory-bytes
  int64_t budget_bytes = 0;       // utilisation × device_bytes
  int64_t weight_bytes = 0;
  int64_t activation_bytes = 0;   // arena and scratch of the largest step
  int64_t runtime_bytes = 0;      // GPU: driver, libraries, captured graphs
  int64_t kv_block_bytes = 0;     // one block, all layers
  int64_t num_blocks = 0;
  int64_t kv_bytes = 0;
  int64_t planned_bytes() const { return weight_bytes + activation_bytes + runtime_bytes + kv_bytes; }
};

// Snapshot of counters and gauges, taken at a step boundary. Counters never fall, not even over a
// reconfiguration.
// vLLM's bounds for vllm:iteration_tokens_total.
inline constexpr std::array<int64_t, 13> kStepTokensBounds = {1,   8,    16,   32,   64,   128,  256,
                                                              512, 1024, 2048, 4096, 8192, 16384};

struct EngineStats {
  int64_t running = 0, waiting = 0;          // sequences
  int64_t kv_blocks_used = 0, kv_blocks_total = 0;
  int64_t prefix_queries_tokens = 0, prefix_hit_tokens = 0;
  int64_t prompt_tokens = 0, generation_tokens = 0;
  int64_t computed_prompt_tokens = 0;        // prompt tokens that ran through the model
  int64_t preemptions = 0;
  int64_t steps = 0;
  int64_t steps_ahead = 0;                   // launched while the step before was still under way
  // Steps by their tokens: at or below each of kStepTokensBounds and above the one before; last, above all.
  std::array<int64_t, kStepTokensBounds.size() + 1> steps_by_tokens{};
  int64_t step_tokens = 0;                   // tokens of all steps
  int64_t restored_prefix_blocks = 0;        // from prefix-cache-file at the start
  int64_t reconfigurations = 0;
  int64_t finished_stop = 0, finished_length = 0, finished_cancelled = 0, finished_error = 0;
  double step_seconds = 0;                   // time spent in steps
  double device_wait_seconds = 0;            // of it, spent waiting for the device; the rest is the host's work
  double last_reconfigure_seconds = 0;

  void count_step(int64_t tokens, double seconds) {
    const auto bound = std::lower_bound(kStepTokensBounds.begin(), kStepTokensBounds.end(), tokens);
    step_seconds += seconds;
    if (tokens == 0) return;
    steps_by_tokens[static_cast<size_t>(bound - kStepTokensBounds.begin())] += 1;
    step_tokens += tokens;
    steps += 1;
  }
};

struct EngineDescription {
  EngineModelInfo model;
  EngineConfig requested;
  ResolvedConfig resolved;
  MemoryPlan plan;
  EngineConfig effective;  // read back from what runs: scheduler, blocks, workspace, threads
};

// What was written to prefix-cache-file, or read from it.
struct PrefixCacheSummary {
  int64_t blocks = 0;
  int64_t damaged_blocks = 0;  // left out
  int64_t bytes = 0;           // of keys and values
  double seconds = 0;
};

class EngineService {
 public:
  // Loads the model, builds the plan, allocates everything and proves a forward pass works before
  // it returns: after that the service is ready.
  static Result<std::unique_ptr<EngineService>> start(const std::filesystem::path& model,
                                                      const EngineConfig& requested);
  virtual ~EngineService() = default;

  // Refused with kInvalidArgument if it can never run (empty prompt, token id out of the vocabulary,
  // longer than max-model-len or than all KV blocks together, sampling values out of range), with
  // kUnavailable while shutting down. max_tokens is cut to what the context leaves.
  virtual Result<SeqId> submit(EngineRequest request) = 0;
  // Frees the sequence's blocks at the next step boundary; unknown or ended ids are ignored.
  virtual void cancel(SeqId sequence) = 0;
  // At a step boundary: running sequences are re-queued, arenas and pool rebuilt, weights stay. On
  // error the old configuration goes on. Blocks the caller until it is in effect.
  virtual Result<EngineDescription> reconfigure(const EngineConfig& requested) = 0;
  // Forgets all cached prefixes that no running sequence uses.
  virtual void reset_prefix_cache() = 0;
  // Writes the cached prefixes to prefix-cache-file, between two steps. stop() does the same.
  virtual Result<PrefixCacheSummary> save_prefix_cache() = 0;

  virtual EngineDescription describe() const = 0;
  virtual EngineStats stats() const = 0;
  // False once the engine has failed for good; the message says why.
  virtual Status health() const = 0;
  // Ends every sequence (kCancelled) and the thread. Idempotent.
  virtual void stop() = 0;
};

}  // namespace crible
