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
      logit_rows_(static_cast<size_t>(limits.max_sequences + limits.max_scoring_rows)),
      sample_rows_(static_cast<size_t>(limits.max_sequences + limits.max_scoring_rows)) {}

int64_t Batch::bytes(const BatchLimits& limits) {
  const auto per_token = static_cast<int64_t>(sizeof(TokenId) + sizeof(int32_t) + sizeof(int64_t));
  const auto per_row = static_cast<int64_t>(sizeof(int32_t) + sizeof(SampleRow));
  const auto per_sequence = static_cast<int64_t>(2 * sizeof(int32_t)) +
                            ceil_div(limits.max_context, limits.block_size) * static_cast<int64_t>(sizeof(int32_t));
  return limits.max_tokens * per_token + limits.max_sequences * per_sequence +
         (limits.max_sequences + limits.max_scoring_rows) * per_row +
         static_cast<int64_t>(sizeof(int32_t));
}

BatchView Batch::build(std::span<const ScheduledSequence> entries) {
  num_tokens_ = 0;
  num_samples_ = 0;
  reports_ = false;
  int64_t row = 0;
  for (const ScheduledSequence& entry : entries) add(entry, row++);
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
  CHECK(num_tokens_ + entry.num_tokens <= limits_.max_tokens, "a step has more than {} tokens", limits_.max_tokens);
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
  add_scoring_rows(entry);
  if (entry.samples) add_sample_row(s);
}

void Batch::resolve_drawn(std::span<const TokenId> drawn) {
  for (int64_t t = 0; t < num_tokens_; ++t) {
    TokenId& id = token_ids_[static_cast<size_t>(t)];
    if (id < -1) id = drawn[static_cast<size_t>(drawn_row(id))];
  }
  completed_.clear();
  for (size_t i = 0; i < num_samples_; ++i) {
    SampleRow& row = sample_rows_[i];
    if (row.adjustments == nullptr || row.adjustments->history.known == row.adjustments->history.drawn) continue;
    // The last token is what the row's logits are computed from; a fault (-1) is about to end the sequence.
    const TokenId last = token_ids_[static_cast<size_t>(logit_rows_[i])];
    if (last >= 0) complete_history(row, last);
  }
}

void Batch::complete_history(SampleRow& row, TokenId last) {
  Completed& own = completed_.emplace_back();
  own.adjustments = *row.adjustments;
  own.seen.assign(row.adjustments->seen.begin(), row.adjustments->seen.end());
  const auto counted = std::ranges::find(own.seen, last, &TokenCount::id);
  if (counted == own.seen.end()) {
    own.seen.push_back({last, 1});
  } else {
    counted->in_output += 1;
  }
  own.adjustments.seen = own.seen;
  row.adjustments = &own.adjustments;
}

void Batch::add_scoring_rows(const ScheduledSequence& entry) {
  const Sequence& s = *entry.sequence;
  const int64_t rows = scoring_rows(s, s.computed_tokens, entry.num_tokens);
  if (rows == 0) return;
  const int64_t first = std::max(s.computed_tokens, s.sampling_state->first_unscored());
  CHECK(static_cast<int64_t>(num_samples_) + rows <= static_cast<int64_t>(logit_rows_.size()),
        "a step has more than {} rows of logits", logit_rows_.size());
  for (int64_t position = first; position < first + rows; ++position) {
    logit_rows_[num_samples_] = static_cast<int32_t>(num_tokens_ - entry.num_tokens + position - s.computed_tokens);
    sample_rows_[num_samples_++] = {.logprobs = *s.sampling.prompt_logprobs,
                                    .given = s.tokens[static_cast<size_t>(position) + 1]};
  }
  reports_ = true;
}

void Batch::add_sample_row(const Sequence& s) {
  // The tokens that steps under way draw count as drawn.
  const int64_t output_tokens = s.event.output_tokens + s.undrawn_tokens;
  logit_rows_[num_samples_] = static_cast<int32_t>(num_tokens_ - 1);
  sample_rows_[num_samples_++] = {
      .temperature = s.sampling.temperature,
      .min_p = s.sampling.min_p,
      .typical_p = s.sampling.typical_p,
      .top_p = s.sampling.top_p,
      .top_k = s.sampling.top_k,
      .seed = s.seed,
      .position = s.num_tokens(),
      .adjustments = s.sampling_state == nullptr ? nullptr : s.sampling_state->adjustments(output_tokens),
      .logprobs = s.sampling.logprobs.value_or(kNoLogprobs)};
  reports_ |= s.sampling.logprobs.has_value();
}

}  // namespace crible
