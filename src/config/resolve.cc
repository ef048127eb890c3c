#include "config/resolve.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <thread>

#include "base/units.h"

namespace crible {
namespace {

// A chunk that the processor computes well and that does not hold decodes up for long.
constexpr int64_t kCpuChunkTokens = 512;
constexpr int64_t kGpuChunkTokens = 2048;
constexpr int64_t kCpuSequences = 32;
constexpr int64_t kGpuSequences = 256;

// What long prompts may take of a step must leave some of it to the others.
Status check_long_prompts(const EngineConfig& c) {
  if (c.long_prefill_token_threshold == 0) return {};
  if (!c.enable_chunked_prefill) {
    return fail(ErrorCode::kInvalidArgument,
                "long-prefill-token-threshold is {} but without chunked prefill prompts run whole; set it to 0, or "
                "enable chunked prefill",
                c.long_prefill_token_threshold);
  }
  const int64_t for_long = c.long_prefill_token_threshold * c.max_long_partial_prefills;
  if (c.max_num_seqs + for_long <= c.max_num_batched_tokens) return {};
  return fail(ErrorCode::kInvalidArgument,
              "long prompts may take {} tokens of a step (long-prefill-token-threshold x max-long-partial-prefills) and "
              "decodes {} (max-num-seqs), which leaves short prompts none of max-num-batched-tokens {}; lower the "
              "former or raise the last",
              for_long, c.max_num_seqs, c.max_num_batched_tokens);
}

void choose_device(ResolvedConfig& r, const MachineLimits& machine) {
  r.adjust(&EngineConfig::device, std::string(machine.gpu ? "cuda" : "cpu"), "device", "what this machine has");
  if (r.config.max_num_seqs == 0) {
    r.adjust(&EngineConfig::max_num_seqs, machine.gpu ? kGpuSequences : kCpuSequences, "max-num-seqs",
             machine.gpu ? "the default of a GPU" : "the default of a CPU");
  }
  if (r.config.kv_cache_dtype == "auto") {
    r.adjust(&EngineConfig::kv_cache_dtype, std::string(machine.gpu ? "bf16" : "f16"), "kv-cache-dtype",
             machine.gpu ? "the type of the activations" : "half the memory of f32");
  }
}

Status check_device(const EngineConfig& c, const MachineLimits& machine) {
  const bool on_gpu_only = c.kv_cache_dtype == "fp8";
  const bool on_both = c.kv_cache_dtype == "bf16";
  if (!on_both && on_gpu_only != machine.gpu) {
    return fail(ErrorCode::kInvalidArgument, "kv-cache-dtype {} is not for a {}; use {}", c.kv_cache_dtype,
                machine.gpu ? "GPU" : "CPU", machine.gpu ? "bf16 or fp8" : "f16, bf16, int8 or f32");
  }
  if (!machine.gpu && c.quantization != "auto") {
    return fail(ErrorCode::kInvalidArgument,
                "quantization {} is for a GPU; on a CPU weights stay as the checkpoint has them", c.quantization);
  }
  if (!machine.gpu && c.tensor_parallel_size > 1) {
    return fail(ErrorCode::kInvalidArgument,
                "tensor-parallel-size is {} but the device is a CPU; it divides a model over GPUs: leave it out, or "
                "use --device cuda",
                c.tensor_parallel_size);
  }
  return {};
}

}  // namespace

MachineLimits this_machine() {
  struct sysinfo info {};
  ::sysinfo(&info);
  return {.memory_bytes = static_cast<int64_t>(info.totalram) * info.mem_unit,
          .cores = std::max<int64_t>(1, std::thread::hardware_concurrency())};
}

nlohmann::json to_json(const std::vector<Adjustment>& adjustments) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& a : adjustments) {
    list.push_back({{"name", a.name}, {"from", a.from}, {"to", a.to}, {"reason", a.reason}});
  }
  return list;
}

Result<ResolvedConfig> resolve(const EngineConfig& requested, const MachineLimits& machine,
                               const ModelLimits& model) {
  ResolvedConfig r{.config = requested, .adjustments = {}};
  if (requested.max_model_len > model.context_length) {
    return fail(ErrorCode::kInvalidArgument,
                "max-model-len is {} but the model's context is {} tokens; ask for at most that",
                requested.max_model_len, model.context_length);
  }
  if (requested.max_model_len == 0) {
    r.adjust(&EngineConfig::max_model_len, model.context_length, "max-model-len", "the model's context length");
  }
  choose_device(r, machine);
  CRIBLE_RETURN_IF_ERROR(check_device(r.config, machine));
  if (requested.device_memory_bytes == 0 && machine.gpu) {
    r.adjust(&EngineConfig::device_memory_bytes, machine.memory_bytes, "device-memory-bytes", "what the GPU has");
  } else if (requested.device_memory_bytes == 0) {
    r.adjust(&EngineConfig::device_memory_bytes, std::min(machine.memory_bytes / 4, 4 * kGiB), "device-memory-bytes",
             "a quarter of the machine's memory, at most 4 GiB");
  } else if (requested.device_memory_bytes > machine.memory_bytes) {
    return fail(ErrorCode::kInvalidArgument, "device-memory-bytes is {} but the machine has {}",
                format_bytes(requested.device_memory_bytes), format_bytes(machine.memory_bytes));
  }
  if (requested.gpu_memory_utilization == 0) {
    r.adjust(&EngineConfig::gpu_memory_utilization, kDefaultUtilization, "gpu-memory-utilization",
             "leaves a tenth to what is not planned");
  }
  if (requested.threads == 0) {
    r.adjust(&EngineConfig::threads, machine.cores, "threads", "one per core");
  }
  const EngineConfig& c = r.config;
  if (requested.max_num_batched_tokens == 0) {
    // As much for short prompts as for long ones.
    const int64_t for_prompts = 2 * c.long_prefill_token_threshold * c.max_long_partial_prefills;
    const int64_t budget = requested.enable_chunked_prefill
                               ? std::max(machine.gpu ? kGpuChunkTokens : kCpuChunkTokens, c.max_num_seqs + for_prompts)
                               : std::max(c.max_model_len, c.max_num_seqs);
    r.adjust(&EngineConfig::max_num_batched_tokens, budget, "max-num-batched-tokens",
             requested.enable_chunked_prefill ? "default chunk beside decodes"
                                              : "a whole prompt must fit one step without chunked prefill");
  } else if (c.max_num_batched_tokens < c.max_num_seqs) {
    return fail(ErrorCode::kInvalidArgument,
                "max-num-batched-tokens is {} but max-num-seqs is {}: every running sequence needs one token a "
                "step; raise the first or lower the second",
                c.max_num_batched_tokens, c.max_num_seqs);
  } else if (!c.enable_chunked_prefill && c.max_num_batched_tokens < c.max_model_len) {
    return fail(ErrorCode::kInvalidArgument,
                "max-num-batched-tokens is {} but without chunked prefill a prompt of max-model-len {} must fit one "
                "step; raise the first, lower the second, or enable chunked prefill",
                c.max_num_batched_tokens, c.max_model_len);
  }
  CRIBLE_RETURN_IF_ERROR(check_long_prompts(c));
  return r;
}

}  // namespace crible
