#include "config/engine_config.h"

namespace crible {

const FieldTable<EngineConfig>& engine_fields() {
  using C = EngineConfig;
  constexpr double kMaxBytes = 1LL << 44;
  static const FieldTable<EngineConfig> table({
      {.name = "device", .member = &C::device, .choices = {"auto", "cpu", "cuda"},
       .help = "what computes; auto = a GPU if there is one that this build can use, else the CPU"},
      {.name = "gpu-memory-utilization", .member = &C::gpu_memory_utilization, .unit = "share", .minimum = 0,
       .maximum = 1.0, .live = true,
       .help = "share of the device's memory that weights, activations and KV cache take together; 0 = at most 0.9, on a "
               "CPU with a KV cache for max-num-seqs sequences of 512 tokens, at most 1 GiB"},
      {.name = "device-memory-bytes", .member = &C::device_memory_bytes, .unit = "bytes", .minimum = 0,
       .maximum = kMaxBytes,
       .help = "the amount of memory that counts as the device's; 0 = on a GPU all it has, on a CPU a quarter of the "
               "machine's, at most 4 GiB"},
      {.name = "kv-cache-memory-bytes", .member = &C::kv_cache_memory_bytes, .unit = "bytes", .minimum = 0,
       .maximum = kMaxBytes, .live = true,
       .help = "memory for KV blocks; 0 = what a stated gpu-memory-utilization leaves after weights and activations"},
      {.name = "max-model-len", .member = &C::max_model_len, .unit = "tokens", .minimum = 0, .maximum = 1 << 24,
       .live = true, .help = "longest prompt and output of one sequence together; 0 = the model's own limit"},
      {.name = "max-num-seqs", .member = &C::max_num_seqs, .unit = "sequences", .minimum = 0, .maximum = 4096,
       .live = true, .help = "sequences that run at once; more requests wait; 0 = 32 on a CPU, 256 on a GPU"},
      {.name = "max-num-batched-tokens", .member = &C::max_num_batched_tokens, .unit = "tokens", .minimum = 0,
       .maximum = 1 << 20, .live = true,
       .help = "token budget of one step, decodes first and the rest to prompts; 0 = with chunked prefill 512 on a "
               "CPU and 2048 on a GPU, the context length without"},
      {.name = "enable-chunked-prefill", .member = &C::enable_chunked_prefill, .live = true,
       .help = "prompts are computed in chunks beside decodes; off: a prompt runs whole in a step of its own"},
      {.name = "enable-prefix-caching", .member = &C::enable_prefix_caching, .live = true,
       .help = "KV blocks of earlier prompts are reused where a new prompt starts alike"},
      {.name = "scheduling-policy", .member = &C::scheduling_policy, .choices = {"fcfs", "priority"}, .live = true,
       .help = "which request goes first: by arrival, or by the request's priority (lower first) and then arrival; what "
               "comes last in that order is pre-empted first"},
      {.name = "long-prefill-token-threshold", .member = &C::long_prefill_token_threshold, .unit = "tokens",
       .minimum = 0, .maximum = 1 << 24, .live = true,
       .help = "a prompt with more to compute is long: it gets at most this many tokens of a step, and shorter prompts "
               "pass it; 0 = no prompt is"},
      {.name = "max-long-partial-prefills", .member = &C::max_long_partial_prefills, .unit = "sequences", .minimum = 1,
       .maximum = 4096, .live = true, .help = "long prompts under way at once; further ones wait"},
      {.name = "block-size", .member = &C::block_size, .unit = "tokens", .minimum = 16, .maximum = 16,
       .help = "tokens per KV block"},
      {.name = "kv-cache-dtype", .member = &C::kv_cache_dtype, .choices = {"auto", "f16", "bf16", "int8", "f32", "fp8"},
       .live = true,
       .help = "element type of the KV cache: on a CPU f16 (auto), bf16, int8 or f32; on a GPU bf16 (auto) or fp8 (E4M3)"},
      {.name = "load-format", .member = &C::load_format, .choices = {"auto", "dummy"},
       .help = "auto: the weights of the model's files; dummy: made-up weights of the shape that config.json states, "
               "which cost what the real ones cost"},
      {.name = "quantization", .member = &C::quantization, .choices = {"auto", "bf16", "fp8"},
       .help = "GPU only: type of the layers' weights; auto = as the checkpoint has them, bf16 if it is of another type; "
               "fp8 = E4M3 with a scale per row"},
      {.name = "deterministic", .member = &C::deterministic,
       .help = "GPU: the same tokens bit for bit, whatever the batch, the chunks and the cache; on a CPU that always holds"},
      {.name = "tensor-parallel-size", .member = &C::tensor_parallel_size, .unit = "GPUs", .minimum = 1, .maximum = 64,
       .help = "GPUs that share the model, each with a part of every layer; memory settings are those of each GPU"},
      {.name = "threads", .member = &C::threads, .unit = "threads", .minimum = 0, .maximum = 1024,
       .help = "CPU only: threads that compute; 0 = one per core"},
      {.name = "seed", .member = &C::seed, .minimum = 0, .maximum = 9e15, .live = true,
       .help = "seed of sampling for requests that state none"},
      {.name = "prefix-cache-file", .member = &C::prefix_cache_file,
       .help = "file that keeps the prefix cache: read at the start, written at the end and on POST "
               "/admin/prefix_cache/save; empty = none"},
  });
  return table;
}

}  // namespace crible
