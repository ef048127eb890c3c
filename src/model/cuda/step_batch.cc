#include "model/cuda/step_batch.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {
namespace {

constexpr int64_t kBlockTokens = 16;

template <typename T>
T* at(std::byte* base, int64_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

}  // namespace

// The list of blocks comes last: it is the longest, and only its used part is sent.
StepBatch::Layout StepBatch::lay_out(const StepLimits& limits) {
  int64_t offset = 0;
  const auto place = [&](int64_t count, int64_t element_bytes) {
    const int64_t start = offset;
    offset += round_up(count * element_bytes, 256);
    return start;
  };
  Layout layout = {};
  layout.token_ids = place(limits.max_tokens, 4);
  layout.positions = place(limits.max_tokens, 4);
  layout.slots = place(limits.max_tokens, 8);
  layout.query_start = place(limits.max_sequences + 1, 4);
  layout.kv_start = place(limits.max_sequences + 1, 4);
  layout.context_length = place(limits.max_sequences, 4);
  layout.last_block_tokens = place(limits.max_sequences, 4);
  layout.logit_rows = place(limits.max_logit_rows, 4);
  // A padded sequence has one block.
  layout.kv_blocks = place(limits.max_blocks + limits.max_sequences, 4);
  layout.bytes = offset;
  return layout;
}

Result<StepBatch> StepBatch::create(const StepLimits& limits) {
  StepBatch batch;
  batch.limits_ = limits;
  batch.layout_ = lay_out(limits);
  const Layout& l = batch.layout_;
  CRIBLE_TRY(batch.buffer_, DeviceBuffer::allocate(l.bytes));
  for (PinnedBuffer& staging : batch.staging_) {
    CRIBLE_TRY(staging, PinnedBuffer::allocate(l.bytes));
    CRIBLE_TRY(CudaEvent sent, CudaEvent::create());
    batch.sent_.push_back(std::move(sent));
  }
  auto* base = batch.buffer_.as<std::byte>();
  batch.device_ = {.token_ids = at<int32_t>(base, l.token_ids),
                   .positions = at<int32_t>(base, l.positions),
                   .slots = at<int64_t>(base, l.slots),
                   .context_length = at<int32_t>(base, l.context_length),
                   .logit_rows = at<int32_t>(base, l.logit_rows),
                   .attention = {.query_start = at<int32_t>(base, l.query_start),
                                 .kv_start = at<int32_t>(base, l.kv_start),
                                 .kv_blocks = at<int32_t>(base, l.kv_blocks),
                                 .last_block_tokens = at<int32_t>(base, l.last_block_tokens)}};
  return batch;
}

// Returns the number of listed blocks.
int64_t StepBatch::pack(const BatchView& b, int64_t sequences, std::byte* target) {
  const Layout& l = layout_;
  const int64_t padding = sequences - b.num_sequences;
  std::memcpy(target + l.token_ids, b.token_ids, static_cast<size_t>(b.num_tokens) * 4);
  std::memcpy(target + l.positions, b.positions, static_cast<size_t>(b.num_tokens) * 4);
  std::memcpy(target + l.slots, b.slot_mapping, static_cast<size_t>(b.num_tokens) * 8);
  std::memcpy(target + l.query_start, b.query_start, static_cast<size_t>(b.num_sequences + 1) * 4);
  std::memcpy(target + l.context_length, b.context_length, static_cast<size_t>(b.num_sequences) * 4);
  std::memcpy(target + l.logit_rows, b.logit_rows, static_cast<size_t>(b.num_logit_rows) * 4);
  auto* kv_start = at<int32_t>(target, l.kv_start);
  auto* kv_blocks = at<int32_t>(target, l.kv_blocks);
  auto* last_block_tokens = at<int32_t>(target, l.last_block_tokens);
  int32_t listed = 0;
  for (int64_t s = 0; s < b.num_sequences; ++s) {
    const int32_t blocks = static_cast<int32_t>(ceil_div(b.context_length[s], kBlockTokens));
    kv_start[s] = listed;
    last_block_tokens[s] = static_cast<int32_t>(b.context_length[s] - (blocks - 1) * kBlockTokens);
    CHECK(listed + blocks <= limits_.max_blocks, "{} blocks", limits_.max_blocks);
    std::memcpy(kv_blocks + listed, b.block_table + s * b.block_table_stride,
                static_cast<size_t>(blocks) * 4);
    listed += blocks;
  }
  for (int64_t i = 0; i < padding; ++i) {
    const int64_t s = b.num_sequences + i;
    at<int32_t>(target, l.token_ids)[b.num_tokens + i] = -1;
    at<int32_t>(target, l.positions)[b.num_tokens + i] = 0;
    at<int64_t>(target, l.slots)[b.num_tokens + i] = -1;
    at<int32_t>(target, l.query_start)[s + 1] = static_cast<int32_t>(b.num_tokens + i + 1);
    at<int32_t>(target, l.context_length)[s] = 1;
    at<int32_t>(target, l.logit_rows)[b.num_logit_rows + i] = static_cast<int32_t>(b.num_tokens + i);
    kv_start[s] = listed;
    last_block_tokens[s] = 1;
    kv_blocks[listed++] = 0;
  }
  kv_start[sequences] = listed;
  return listed;
}

Status StepBatch::send(const CudaStream& stream, const BatchView& batch, int64_t padded_sequences) {
  const int64_t sequences = std::max(padded_sequences, batch.num_sequences);
  const int64_t padding = sequences - batch.num_sequences;
  CHECK(batch.block_size == kBlockTokens, "blocks of {}", batch.block_size);
  CHECK(batch.num_tokens + padding <= limits_.max_tokens && sequences <= limits_.max_sequences &&
            batch.num_logit_rows + padding <= limits_.max_logit_rows,
        "{} tokens, {} sequences, {} logit rows", batch.num_tokens, sequences, batch.num_logit_rows);
  const size_t slot = static_cast<size_t>(next_);
  next_ = 1 - next_;
  CRIBLE_RETURN_IF_ERROR(sent_[slot].synchronize());
  latest_ = staging_[slot].as<std::byte>();
  const int64_t listed = pack(batch, sequences, latest_);
  device_.num_tokens = batch.num_tokens + padding;
  device_.num_sequences = sequences;
  device_.num_logit_rows = batch.num_logit_rows + padding;
  CRIBLE_RETURN_IF_ERROR(
      status_of(cudaMemcpyAsync(buffer_.data(), latest_, static_cast<size_t>(layout_.kv_blocks + listed * 4),
                                cudaMemcpyHostToDevice, stream.get()),
                "send a step"));
  return sent_[slot].record(stream);
}

AttentionPlanInput StepBatch::plan_input(bool graph) const {
  return {.num_sequences = device_.num_sequences,
          .query_start = at<int32_t>(latest_, layout_.query_start),
          .kv_start = at<int32_t>(latest_, layout_.kv_start),
          .context_length = at<int32_t>(latest_, layout_.context_length),
          .graph = graph};
}

}  // namespace crible::cuda
