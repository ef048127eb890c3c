// For tests: the host arrays of a step over parts of several texts, each with blocks of its own.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/batch_view.h"

namespace crible::cuda {

// One step over several sequences: the tokens [begin, end) of each, logits of the last.
struct TextStep {
  static constexpr int64_t kBlockTokens = 16;
  std::vector<int32_t> token_ids, positions, query_start = {0}, context_length, block_table, logit_rows;
  std::vector<int64_t> slots;
  int64_t stride = 32;

  // Sequence `index` owns the blocks [index · stride, (index + 1) · stride), back to front.
  void add(int64_t index, const std::vector<int32_t>& tokens, int64_t begin, int64_t end) {
    for (int64_t b = 0; b < stride; ++b)
      block_table.push_back(static_cast<int32_t>((index + 1) * stride - 1 - b));
    const int32_t* blocks = &block_table[block_table.size() - static_cast<size_t>(stride)];
    for (int64_t p = begin; p < end; ++p) {
      token_ids.push_back(tokens[static_cast<size_t>(p)]);
      positions.push_back(static_cast<int32_t>(p));
      slots.push_back(blocks[p / kBlockTokens] * kBlockTokens + p % kBlockTokens);
    }
    query_start.push_back(static_cast<int32_t>(token_ids.size()));
    context_length.push_back(static_cast<int32_t>(end));
    logit_rows.push_back(static_cast<int32_t>(token_ids.size()) - 1);
  }
  BatchView view() const {
    return {.num_tokens = static_cast<int64_t>(token_ids.size()),
            .num_sequences = static_cast<int64_t>(context_length.size()),
            .block_size = kBlockTokens,
            .block_table_stride = stride,
            .token_ids = token_ids.data(),
            .positions = positions.data(),
            .slot_mapping = slots.data(),
            .query_start = query_start.data(),
            .context_length = context_length.data(),
            .block_table = block_table.data(),
            .num_logit_rows = static_cast<int64_t>(logit_rows.size()),
            .logit_rows = logit_rows.data()};
  }
};

}  // namespace crible::cuda
