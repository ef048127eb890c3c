// One accepted request on its way: its tokens so far, how many of them have keys and values in the
// cache, and the blocks that hold them. Sequences live in std::list nodes that are spliced from queue
// to queue: they never move in memory and no step allocates for them. Engine thread only, once added.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <vector>

#include "base/units.h"
#include "engine/prefix_index.h"
#include "engine/request.h"

namespace crible {

struct Sequence {
  SeqId id;
  std::vector<TokenId> tokens;  // prompt, then output; room for the longest output is reserved
  int64_t prompt_tokens = 0;
  SamplingParams sampling;
  uint64_t seed = 0;            // of this sequence's draws
  uint64_t cache_salt = 0;
  std::function<void(const TokenOutput&)> on_output;

  int64_t computed_tokens = 0;  // leading tokens whose keys and values are in the cache
  std::vector<BlockId> blocks;
  std::vector<BlockHash> block_hashes;  // of full blocks, made as they are asked for
  int64_t indexed_blocks = 0;           // leading blocks already offered to the prefix index
  bool started = false;                 // its prefix query is counted once, not again after pre-emption
  TokenOutput event;                    // the next event; most fields stay from one to the next

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t uncomputed_tokens() const { return num_tokens() - computed_tokens; }
  bool ended() const { return event.finish != FinishReason::kNone; }
};

using SequenceList = std::list<Sequence>;

// A list of one sequence, every vector with its final capacity. The request has passed admit().
SequenceList make_sequence(SeqId id, EngineRequest request, uint64_t engine_seed, int64_t block_size);

// The request's seed, or one mixed from the engine's seed and the sequence id.
uint64_t sequence_seed(const SamplingParams& sampling, uint64_t engine_seed, SeqId id);

}  // namespace crible
