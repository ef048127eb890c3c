#include "ops/sample/device_sampler_cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "ops/sample/packed_rows_cuda.h"
#include "ops/sample/sample_cuda.h"

namespace crible::cuda {
namespace {

int64_t parameter_bytes(const DeviceSamplerLimits& limits) {
  return round_up(packed_rows_bytes(limits.max_rows, limits.vocabulary, limits.list_bytes), 256);
}
int64_t logprobs_stride(const DeviceSamplerLimits& limits) {
  return 1 + limits.max_logprobs;
}
int64_t logprobs_at(const DeviceSamplerLimits& limits) {
  return round_up(limits.max_rows * static_cast<int64_t>(sizeof(TokenId)), 256);
}
int64_t logprobs_bytes(const DeviceSamplerLimits& limits, int64_t rows) {
  return rows * logprobs_stride(limits) * static_cast<int64_t>(sizeof(TokenLogprob));
}
int64_t result_bytes(const DeviceSamplerLimits& limits) {
  return round_up(logprobs_at(limits) + logprobs_bytes(limits, limits.max_rows), 256);
}

int64_t history_stride(const DeviceSamplerLimits& limits) {
  return history_words(std::min(limits.vocabulary, limits.history_tokens));
}
int64_t history_bytes(const DeviceSamplerLimits& limits) {
  return limits.histories * history_stride(limits) * static_cast<int64_t>(sizeof(uint32_t));
}

TokenLogprob* logprobs_in(const DeviceSamplerLimits& limits, std::byte* results) {
  return reinterpret_cast<TokenLogprob*>(results + logprobs_at(limits));
}

}  // namespace

int64_t DeviceSampler::bytes_for(const DeviceSamplerLimits& limits) {
  return parameter_bytes(limits) + result_bytes(limits) + history_bytes(limits);
}

DeviceSampler::DeviceSampler(const DeviceSamplerLimits& limits)
    : limits_(limits), slots_(limits.histories), places_(static_cast<size_t>(limits.max_rows)) {}

Result<DeviceSampler> DeviceSampler::create(const DeviceSamplerLimits& limits) {
  if (limits.vocabulary > kMaxVocabulary) {
    return fail(ErrorCode::kUnsupported,
                "the model has {} tokens, drawing on the GPU is limited to {}; use the CPU",
                limits.vocabulary, kMaxVocabulary);
  }
  DeviceSampler sampler(limits);
  if (limits.logits_stride == 0) sampler.limits_.logits_stride = limits.vocabulary;
  CRIBLE_TRY(sampler.parameters_, DeviceBuffer::allocate(parameter_bytes(limits)));
  CRIBLE_TRY(sampler.results_, DeviceBuffer::allocate(result_bytes(limits)));
  if (limits.histories > 0) {
    CRIBLE_TRY(sampler.histories_, DeviceBuffer::allocate(history_bytes(limits)));
  }
  for (size_t i = 0; i < 2; ++i) {
    CRIBLE_TRY(sampler.staging_[i], PinnedBuffer::allocate(parameter_bytes(limits)));
    CRIBLE_TRY(sampler.fetched_[i], PinnedBuffer::allocate(result_bytes(limits)));
    CRIBLE_TRY(CudaEvent sent, CudaEvent::create());
    sampler.sent_.push_back(std::move(sent));
  }
  return sampler;
}

Status DeviceSampler::send(const CudaStream& stream, std::span<const crible::SampleRow> rows) {
  CHECK(std::ssize(rows) <= limits_.max_rows, "{} rows", rows.size());
  rows_ = rows;
  reports_ = false;
  for (const crible::SampleRow& row : rows) {
    CHECK(row.logprobs <= limits_.max_logprobs && row.given < limits_.vocabulary,
          "{} log-probabilities, token {} given", row.logprobs, row.given);
    reports_ |= row.logprobs != kNoLogprobs;
    if (row.adjustments == nullptr) continue;
    const auto [sequence, drawn, known] = row.adjustments->history;
    CHECK(std::ssize(row.adjustments->seen) + drawn - known < limits_.history_tokens || sequence < 0 ||
              limits_.histories == 0,
          "a history of {} tokens, {} of them drawn, {} known", row.adjustments->seen.size(), drawn, known);
  }
  slots_.place(rows, std::span(places_).first(rows.size()));
  return send_round(stream, 0);
}

Status DeviceSampler::send_round(const CudaStream& stream, int64_t first) {
  const size_t slot = next_staging_;
  next_staging_ = 1 - slot;
  CRIBLE_RETURN_IF_ERROR(sent_[slot].synchronize());
  const std::span<std::byte> target(staging_[slot].as<std::byte>(),
                                    static_cast<size_t>(staging_[slot].bytes()));
  const PackedRows packed = pack_rows(
      rows_.subspan(static_cast<size_t>(first)),
      std::span<const HistoryPlace>(places_).subspan(static_cast<size_t>(first), rows_.size() - static_cast<size_t>(first)),
      limits_.vocabulary, target);
  round_first_ = first;
  round_rows_ = packed.rows;
  round_lists_at_ = packed.lists_at;
  CRIBLE_RETURN_IF_ERROR(
      status_of(cudaMemcpyAsync(parameters_.data(), target.data(), static_cast<size_t>(packed.bytes),
                                cudaMemcpyHostToDevice, stream.get()),
                "send sampling parameters"));
  return sent_[slot].record(stream);
}

Status DeviceSampler::enqueue(const CudaStream& stream, const float* logits) {
  while (true) {
    const SampleArgs all = {
        .logits = logits,
        .logits_stride = limits_.logits_stride,
        .rows = round_rows_,
        .vocabulary = limits_.vocabulary,
        .parameters = parameters_.as<SampleRow>(),
        .tokens = results_.as<int32_t>(),
        .lists = reinterpret_cast<const uint32_t*>(parameters_.as<std::byte>() + round_lists_at_),
        .logprobs = logprobs_in(limits_, results_.as<std::byte>()),
        .logprobs_stride = logprobs_stride(limits_),
        .histories = histories_.as<uint32_t>(),
        .history_stride = history_stride(limits_)};
    SampleArgs round = all;
    round.logits += round_first_ * all.logits_stride;
    round.tokens += round_first_;
    round.logprobs += round_first_ * all.logprobs_stride;
    sample(stream, round);
    if (round_first_ + round_rows_ == std::ssize(rows_)) return {};
    CRIBLE_RETURN_IF_ERROR(send_round(stream, round_first_ + round_rows_));
  }
}

Result<SampledRows> DeviceSampler::fetch_async(const CudaStream& stream) {
  const PinnedBuffer& target = fetched_[next_fetched_];
  next_fetched_ = 1 - next_fetched_;
  const int64_t rows = std::ssize(rows_);
  const int64_t bytes = reports_ ? logprobs_at(limits_) + logprobs_bytes(limits_, rows)
                                 : rows * static_cast<int64_t>(sizeof(TokenId));
  CRIBLE_RETURN_IF_ERROR(status_of(cudaMemcpyAsync(target.data(), results_.data(), static_cast<size_t>(bytes),
                                                   cudaMemcpyDeviceToHost, stream.get()),
                                   "fetch sampled tokens"));
  return SampledRows{.tokens = {target.as<TokenId>(), static_cast<size_t>(rows)},
                     .logprobs = logprobs_in(limits_, target.as<std::byte>()),
                     .logprobs_stride = logprobs_stride(limits_)};
}

}  // namespace crible::cuda
