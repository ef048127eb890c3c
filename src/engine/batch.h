// The arrays that describe one step to the operations, filled from the plan once per step. Sized at
// construction for the largest step; build() allocates nothing. Engine thread only.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "ops/batch_view.h"
#include "ops/sample/sample.h"

namespace crible {

struct BatchLimits {
  int64_t max_tokens = 1;     // query tokens of a step
  int64_t max_sequences = 1;
  int64_t max_scoring_rows = 0;  // rows of logits beside one for each sequence
  int64_t max_context = 1;    // tokens of one sequence
  int64_t block_size = 16;
};

class Batch {
 public:
  explicit Batch(const BatchLimits& limits);
  // Bytes of the arrays, for the memory plan.
  static int64_t bytes(const BatchLimits& limits);

  const BatchLimits& limits() const { return limits_; }
  // Views stay valid until the next call.
  BatchView build(std::span<const ScheduledSequence> entries);
  // Puts the tokens of the step before in the place of the ids that stand for them (step_runner.h), and counts them in
  // histories that lack them. Allocates for the latter.
  void resolve_drawn(std::span<const TokenId> drawn);
  // In the order of the plan's entries: for each the prompt rows to score, then the one to sample from.
  std::span<const SampleRow> sample_rows() const { return {sample_rows_.data(), num_samples_}; }
  // Whether a row asks for log-probabilities.
  bool reports() const { return reports_; }

 private:
  void add(const ScheduledSequence& entry, int64_t row);
  void add_scoring_rows(const ScheduledSequence& entry);
  void add_sample_row(const Sequence& sequence);
  void complete_history(SampleRow& row, TokenId last);

  // The adjustments of a row with the last token in its history.
  struct Completed {
    std::vector<TokenCount> seen;
    LogitAdjustments adjustments;
  };

  BatchLimits limits_;
  int64_t stride_;  // blocks of the longest sequence
  int64_t num_tokens_ = 0;
  size_t num_samples_ = 0;
  bool reports_ = false;
  std::vector<TokenId> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int64_t> slot_mapping_;
  std::vector<int32_t> query_start_;
  std::vector<int32_t> context_length_;
  std::vector<int32_t> block_table_;
  std::vector<int32_t> logit_rows_;
  std::vector<SampleRow> sample_rows_;
  std::deque<Completed> completed_;  // by resolve_drawn()
};

}  // namespace crible
