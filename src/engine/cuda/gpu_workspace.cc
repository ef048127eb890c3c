#include "engine/cuda/gpu_workspace.h"

#include <algorithm>

#include "engine/workspace.h"
#include "model/cuda/decode_graphs.h"

namespace crible::cuda {

StepLimits step_limits(const EngineConfig& resolved) {
  const int64_t sequences = DecodeGraphs::most_padded_rows(resolved.max_num_seqs);
  const BatchLimits host = batch_limits(resolved);
  return {.max_tokens = std::max(host.max_tokens, sequences),
          .max_sequences = sequences,
          .max_logit_rows = sequences + host.max_scoring_rows,
          .max_blocks = resolved.max_num_seqs * ceil_div(resolved.max_model_len, resolved.block_size)};
}

DecoderOptions decoder_options(const EngineConfig& resolved) {
  return {.kv_type = resolved.kv_cache_dtype == "fp8" ? KvType::kFp8 : KvType::kBf16,
          .deterministic = resolved.deterministic};
}

DeviceSamplerLimits sampler_limits(const EngineConfig& resolved, int64_t vocabulary, int64_t logits_stride) {
  return {.max_rows = step_limits(resolved).max_logit_rows,
          .vocabulary = vocabulary,
          .logits_stride = logits_stride,
          .max_logprobs = kMaxLogprobs,
          .histories = resolved.max_num_seqs,
          .history_tokens = resolved.max_model_len};
}

GpuWorkspace::GpuWorkspace(const EngineConfig& resolved)
    : batch_(batch_limits(resolved)), max_sequences_(resolved.max_num_seqs) {}

Status GpuWorkspace::enqueue(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
  if (!copies.empty()) CRIBLE_RETURN_IF_ERROR(copy_blocks(copies));
  const BatchView view = batch_.build(entries);
  const auto rows = batch_.sample_rows();
  // Alone, a sampled token has one row; a scored prompt of one token has another.
  const bool decodes_only = std::ranges::all_of(entries, [](const ScheduledSequence& entry) {
    return entry.num_tokens == 1 && entry.samples;
  }) && std::ssize(rows) == view.num_sequences;
  CRIBLE_RETURN_IF_ERROR(forward(view, decodes_only));
  sampled_ = {};
  reports_ = batch_.reports();
  if (rows.empty()) return {};
  CRIBLE_TRY(sampled_, sample(rows));
  return {};
}

StepOutput GpuWorkspace::results() const {
  return {.tokens = sampled_.tokens, .logprobs = reports_ ? sampled_.logprobs : nullptr};
}

}  // namespace crible::cuda
