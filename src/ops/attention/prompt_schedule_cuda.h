// Which block of the grid computes which part of which prompt's attention (prompt_attention_cuda.h): the work
// of all (sequence, tile of queries, KV head), laid end to end, is cut into one stretch of equal cost for
// each block. A unit that is cut leaves partial results, which a second kernel merges. Pure arithmetic on the
// host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

// Rows of a tile: queries times the query heads of one KV head, head by head within a query.
inline constexpr int kPromptTileRows = 128;
inline constexpr int kPromptTileKeys = 128;

// A tile's work, or a part of it: over the tiles of keys [key_begin, key_end). With all that is to be known
// of the sequence, so that a block of the grid has it from one read.
struct alignas(16) PromptUnit {
  int32_t first_query;  // of the sequence, in the step
  int32_t queries;
  int32_t context;
  int32_t first_block;  // in the list of blocks
  int32_t tile, kv_head, key_begin, key_end;
  int32_t part;  // which partial result it leaves; -1: it is the whole, and leaves the result
};
// A tile that was cut.
struct PromptMerge {
  int32_t first_query, queries, tile, kv_head, first_part, parts;
};

// Kept between steps for its memory.
struct PromptSchedule {
  std::vector<int32_t> start;  // [blocks + 1] into units
  std::vector<PromptUnit> units;
  std::vector<PromptMerge> merges;
  int32_t parts = 0;  // at most 2 · blocks
};

// query_start, kv_start: [sequences + 1]; context_length: [sequences], with the new tokens.
struct PromptSequences {
  std::span<const int32_t> query_start, kv_start, context_length;
};
void plan_prompts(const AttentionShape& shape, const PromptSequences& sequences, int blocks,
                  PromptSchedule* schedule);

// Tiles of keys that the tile's last query sees.
int32_t visible_key_tiles(const AttentionShape& shape, int32_t queries, int32_t context, int32_t tile);

}  // namespace crible::cuda
