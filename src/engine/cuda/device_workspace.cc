#include "engine/cuda/device_workspace.h"

#include <algorithm>

#include "engine/cuda/block_transfer.h"
#include "engine/workspace.h"

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
          .max_logprobs = kMaxLogprobs};
}

namespace {

int64_t logits_bytes(const EngineConfig& resolved, const DecoderShape& shape) {
  return step_limits(resolved).max_logit_rows * shape.head_rows() * static_cast<int64_t>(sizeof(float));
}

}  // namespace

MemoryNeeds DeviceWorkspace::needs(const DecoderWeights& weights, const EngineConfig& resolved) {
  const DecoderShape& shape = weights.shape();
  const StepLimits limits = step_limits(resolved);
  const DecoderOptions options = decoder_options(resolved);
  return {.activation_bytes = Decoder::arena_bytes(shape, limits, weights.format()) +
                              Decoder::attention_bytes(shape, limits, options) + Matmul::workspace_bytes() +
                              StepBatch::bytes_for(limits) + logits_bytes(resolved, shape) +
                              DeviceSampler::bytes_for(sampler_limits(resolved, shape.vocabulary, shape.head_rows())),
          .kv_block_bytes = KvPool::bytes_per_block(shape, options.kv_type)};
}

Result<std::unique_ptr<DeviceWorkspace>> DeviceWorkspace::create(const CudaStream& stream,
                                                                 const DecoderWeights& weights, const RopeTable& rope,
                                                                 const EngineConfig& resolved, const MemoryPlan& plan) {
  const StepLimits limits = step_limits(resolved);
  const DecoderOptions options = decoder_options(resolved);
  const DecoderShape& shape = weights.shape();
  // The measurement of matmuls wants room of its own: before the KV blocks take what is left.
  CRIBLE_TRY(Decoder decoder, Decoder::create(stream, weights, rope, limits, options));
  CRIBLE_TRY(StepBatch arrays, StepBatch::create(limits));
  CRIBLE_TRY(DeviceBuffer logits, DeviceBuffer::allocate(logits_bytes(resolved, shape)));
  CRIBLE_TRY(DeviceSampler sampler,
             DeviceSampler::create(sampler_limits(resolved, shape.vocabulary, shape.head_rows())));
  CRIBLE_TRY(KvPool pool, KvPool::create(weights.shape(), plan.num_blocks, options.kv_type));
  return std::unique_ptr<DeviceWorkspace>(new DeviceWorkspace(resolved, std::move(decoder), std::move(pool),
                                                              std::move(arrays), std::move(logits),
                                                              std::move(sampler)));
}

DeviceWorkspace::DeviceWorkspace(const EngineConfig& resolved, Decoder decoder, KvPool pool, StepBatch arrays,
                                 DeviceBuffer logits, DeviceSampler sampler)
    : batch_(batch_limits(resolved)),
      decoder_(std::move(decoder)),
      pool_(std::move(pool)),
      logits_(std::move(logits)),
      sampler_(std::move(sampler)),
      graphs_(decoder_, pool_, std::move(arrays), logits_.as<float>()),
      max_sequences_(resolved.max_num_seqs) {
  graphs_.batch().read_drawn_from(sampler_.device_tokens());
}

Status DeviceWorkspace::enqueue(const CudaStream& stream, std::span<const ScheduledSequence> entries,
                                std::span<const BlockCopy> copies) {
  CRIBLE_RETURN_IF_ERROR(copy_blocks(stream, pool_, copies));
  const BatchView view = batch_.build(entries);
  const auto rows = batch_.sample_rows();
  // Alone, a sampled token has one row; a scored prompt of one token has another.
  const bool decodes_only = std::ranges::all_of(
      entries, [](const ScheduledSequence& entry) { return entry.num_tokens == 1 && entry.samples; });
  CRIBLE_RETURN_IF_ERROR(forward(stream, view, decodes_only && std::ssize(rows) == view.num_sequences));
  if (rows.empty()) {
    sampled_ = {};
    return {};
  }
  CRIBLE_RETURN_IF_ERROR(sampler_.send(stream, rows));
  CRIBLE_RETURN_IF_ERROR(sampler_.enqueue(stream, logits_.as<float>()));
  CRIBLE_TRY(sampled_, sampler_.fetch_async(stream));
  reports_ = batch_.reports();
  return {};
}

Status DeviceWorkspace::forward(const CudaStream& stream, const BatchView& view, bool decodes_only) {
  if (decodes_only && graphs_.captured(view.num_sequences)) return graphs_.run(stream, view);
  StepBatch& arrays = graphs_.batch();
  CRIBLE_RETURN_IF_ERROR(arrays.send(stream, view));
  if (decodes_only && graphs_.fused(view.num_sequences)) {
    return decoder_.decode_fused(stream, arrays.device(), pool_, logits_.as<float>());
  }
  CRIBLE_RETURN_IF_ERROR(decoder_.plan(stream, arrays.plan_input(/*graph=*/false)));
  return decoder_.forward(stream, arrays.device(), pool_, logits_.as<float>());
}

StepOutput DeviceWorkspace::results() const {
  return {.tokens = sampled_.tokens, .logprobs = reports_ ? sampled_.logprobs : nullptr};
}

Result<bool> DeviceWorkspace::capture_next(const CudaStream& stream) {
  return graphs_.capture_next(stream, max_sequences_);
}

}  // namespace crible::cuda
