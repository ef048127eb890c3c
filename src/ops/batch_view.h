// The ragged batch of one step, described once and read by every op that needs it. Plain arrays in
// device memory, owned by the caller, valid until the stream has run the step.
//
// num_tokens query tokens from num_sequences sequences, concatenated. Sequence s owns the query
// tokens [query_start[s], query_start[s + 1]); their absolute positions are consecutive and end at
// context_length[s] - 1. Its keys and values for positions [0, context_length[s]) lie in the blocks
// block_table[s * block_table_stride + p / block_size].
#pragma once

#include <cstdint>

#include "base/units.h"

namespace crible {

struct BatchView {
  int64_t num_tokens = 0;
  int64_t num_sequences = 0;
  int64_t block_size = 16;            // tokens per KV block
  int64_t block_table_stride = 0;     // entries per sequence row
  const TokenId* token_ids = nullptr;       // [num_tokens]
  const int32_t* positions = nullptr;       // [num_tokens]
  const int64_t* slot_mapping = nullptr;    // [num_tokens] block_id * block_size + offset: where K and V go
  const int32_t* query_start = nullptr;     // [num_sequences + 1]
  const int32_t* context_length = nullptr;  // [num_sequences] tokens in the cache after this step
  const int32_t* block_table = nullptr;     // [num_sequences, block_table_stride]
  int64_t num_logit_rows = 0;
  const int32_t* logit_rows = nullptr;      // [num_logit_rows] query-token indices whose logits are wanted
};

}  // namespace crible
