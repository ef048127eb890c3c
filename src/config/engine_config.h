// The engine's knobs, by the names operators know from vLLM. An immutable value once resolved.
// Declared in one table (engine_fields): everything that lists, parses or prints knobs reads it.
#pragma once

#include <cstdint>
#include <string>

#include "config/field_table.h"

namespace crible {

struct EngineConfig {
  std::string device = "auto";           // a GPU if there is one that this build can use
  double gpu_memory_utilization = 0;     // share of device_memory_bytes the engine may use; 0 = chosen by resolve
  int64_t device_memory_bytes = 0;       // GPU: its memory; CPU: the stated amount of RAM; 0 = chosen by resolve
  int64_t kv_cache_memory_bytes = 0;     // 0 = what a stated utilisation leaves, else chosen by the memory plan
  int64_t max_model_len = 0;             // 0 = the model's own context length, or what the KV cache holds
  int64_t max_num_seqs = 0;              // 0 = chosen by resolve
  int64_t max_num_batched_tokens = 0;    // 0 = chosen by resolve
  bool enable_chunked_prefill = true;
  bool enable_prefix_caching = true;
  std::string scheduling_policy = "fcfs";
  int64_t long_prefill_token_threshold = 0;  // 0 = off
  int64_t max_long_partial_prefills = 1;
  int64_t block_size = 16;
  std::string kv_cache_dtype = "auto";
  std::string load_format = "auto";
  std::string quantization = "auto";     // GPU: type of the layers' weights
  bool deterministic = false;            // GPU: results do not depend on scheduling; on a CPU they never do
  int64_t tensor_parallel_size = 1;      // GPUs that share the model, in one process
  int64_t threads = 0;                   // CPU: 0 = one per core
  int64_t seed = 0;                      // for requests that state none
  std::string prefix_cache_file;         // the prefix cache outlives the process here; empty = it does not
};

const FieldTable<EngineConfig>& engine_fields();

}  // namespace crible
