#include "engine/batch.h"

#include <algorithm>

#include "base/check.h"

namespace crible {

Batch::Batch(const BatchLimits& limits)
    : limits_(limits),
      stride_(ceil_div(limits.max_context, limits.block_size)),
      token_ids_(static_cast<size_t>(limits.max_tokens)),
      positions_(static_cast<size_t>(limits.max_tokens)),
      slot_mapping_(static_cast<size_t>(limits.max_tokens)),
      query_start_(static_cast<size_t>(limits.max_sequences) + 1),
      context_length_(static_cast<size_t>(limits.max_sequences)),
      block_table_(static_cast<size_t>(limits.max_sequences * stride_)),
      logit_rows_(static_cast<size_t>(limits.max_sequences)),
      sample_rows_(static_cast<size_t>(limits.max_sequences)) {}

int64_t Batch::bytes(const BatchLimits& limits) {
  const auto per_token = static_cast<int64_t>(sizeof(TokenId) + sizeof(int32_t) + sizeof(int64_t));
  const auto per_sequence = static_cast<int64_t>(3 * sizeof(int32_t) + sizeof(SampleRow)) +
                            ceil_div(limits.max_context, limits.block_size) * static_cast<int64_t>(sizeof(int32_t));
  return limits.max_tokens * per_token + limits.max_sequences * per_sequence +
         static_cast<int64_t>(sizeof(int32_t));
}

BatchView Batch::build(const StepPlan& plan) {
  CHECK(plan.num_tokens <= limits_.max_tokens, "a step of {} tokens was planned, its arrays hold {}",
        plan.num_tokens, limits_.max_tokens);
  num_tokens_ = 0;
  num_samples_ = 0;
  int64_t row = 0;
  for (const ScheduledSequence& entry : plan.entries) add(entry, row++);
  return {.num_tokens = num_tokens_,
          .num_sequences = row,
          .block_size = limits_.block_size,
          .block_table_stride = stride_,
          .token_ids = token_ids_.data(),
          .positions = positions_.data(),
          .slot_mapping = slot_mapping_.data(),
          .query_start = query_start_.data(),
          .context_length = context_length_.data(),
          .block_table = block_table_.data(),
          .num_logit_rows = static_cast<int64_t>(num_samples_),
          .logit_rows = logit_rows_.data()};
}

void Batch::add(const ScheduledSequence& entry, int64_t row) {
  const Sequence& s = *entry.sequence;
  const int64_t first = s.computed_tokens;
  for (int64_t i = 0; i < entry.num_tokens; ++i) {
    const int64_t position = first + i;
    const auto t = static_cast<size_t>(num_tokens_ + i);
    token_ids_[t] = s.tokens[static_cast<size_t>(position)];
    positions_[t] = static_cast<int32_t>(position);
    const BlockId block = s.blocks[static_cast<size_t>(position / limits_.block_size)];
    slot_mapping_[t] = block.value * limits_.block_size + position % limits_.block_size;
  }
  query_start_[static_cast<size_t>(row)] = static_cast<int32_t>(num_tokens_);
  num_tokens_ += entry.num_tokens;
  query_start_[static_cast<size_t>(row) + 1] = static_cast<int32_t>(num_tokens_);
  context_length_[static_cast<size_t>(row)] = static_cast<int32_t>(first + entry.num_tokens);
  std::transform(s.blocks.begin(), s.blocks.end(), block_table_.begin() + row * stride_,
                 [](BlockId block) { return block.value; });
  if (!entry.samples) return;
  logit_rows_[num_samples_] = static_cast<int32_t>(num_tokens_ - 1);
  sample_rows_[num_samples_++] = {.temperature = s.sampling.temperature,
                                  .top_p = s.sampling.top_p,
                                  .top_k = s.sampling.top_k,
                                  .seed = s.seed,
                                  .position = s.num_tokens()};
}

}  // namespace crible
