// The host arrays of a step over equal sequences, each with its own blocks in scattered order.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "ops/batch_view.h"

namespace crible::cuda {

class HostStep {
 public:
  // `queries` new tokens per sequence, the last of `context`.
  HostStep(int64_t sequences, int64_t queries, int64_t context) : stride_(ceil_div(context, kBlockTokens)) {
    const int64_t blocks = sequences * stride_;
    query_start_.push_back(0);
    for (int64_t s = 0; s < sequences; ++s) {
      // A step through all blocks that visits each once: neighbours in the sequence are far apart in the
      // pool.
      for (int64_t b = 0; b < stride_; ++b) {
        block_table_.push_back(static_cast<int32_t>((b * sequences + s) % blocks));
      }
      for (int64_t p = context - queries; p < context; ++p) {
        token_ids_.push_back(static_cast<int32_t>((p * 7919 + s * 104729) % 100000));
        positions_.push_back(static_cast<int32_t>(p));
        const int64_t block = block_table_[static_cast<size_t>(s * stride_ + p / kBlockTokens)];
        slots_.push_back(block * kBlockTokens + p % kBlockTokens);
      }
      query_start_.push_back(static_cast<int32_t>(token_ids_.size()));
      context_length_.push_back(static_cast<int32_t>(context));
      logit_rows_.push_back(static_cast<int32_t>(token_ids_.size()) - 1);
    }
  }
  BatchView view() const {
    return {.num_tokens = static_cast<int64_t>(token_ids_.size()),
            .num_sequences = static_cast<int64_t>(context_length_.size()),
            .block_size = kBlockTokens,
            .block_table_stride = stride_,
            .token_ids = token_ids_.data(),
            .positions = positions_.data(),
            .slot_mapping = slots_.data(),
            .query_start = query_start_.data(),
            .context_length = context_length_.data(),
            .block_table = block_table_.data(),
            .num_logit_rows = static_cast<int64_t>(logit_rows_.size()),
            .logit_rows = logit_rows_.data()};
  }

 private:
  static constexpr int64_t kBlockTokens = 16;
  int64_t stride_;
  std::vector<int32_t> token_ids_, positions_, query_start_, context_length_, block_table_, logit_rows_;
  std::vector<int64_t> slots_;
};

}  // namespace crible::cuda
