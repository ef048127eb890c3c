// One answer to an accepted request on its way: its tokens so far, how many of them have keys and values in the
// cache, and the blocks that hold them. Sequences live in std::list nodes that are spliced from queue
// to queue: they never move in memory and no step allocates for them. Engine thread only, once added.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/units.h"
#include "engine/prefix_index.h"
#include "engine/request.h"
#include "engine/sequence_sampling.h"

namespace crible {

// Stands for a token that the step under way draws, by its row of logits.
constexpr TokenId token_of_row(int64_t row) { return static_cast<TokenId>(-2 - row); }
constexpr int64_t drawn_row(TokenId token) { return -2 - static_cast<int64_t>(token); }

struct Sequence {
  SeqId id;
  std::vector<TokenId> tokens;  // prompt, then output; room for the longest output is reserved
  int64_t prompt_tokens = 0;
  int64_t undrawn_tokens = 0;   // of the tokens, at their end, those that steps under way draw (token_of_row)
  int steps_under_way = 0;      // steps that were launched and not collected, and have an entry of this sequence
  SamplingParams sampling;
  uint64_t seed = 0;            // of this sequence's draws
  std::unique_ptr<SequenceSampling> sampling_state;  // null: plain sampling
  uint64_t cache_salt = 0;
  int64_t priority = 0;
  std::optional<SeqId> fork_of;  // a running sequence of the same prompt, whose blocks it starts from
  std::function<void(const TokenOutput&)> on_output;

  int64_t computed_tokens = 0;  // leading tokens whose keys and values are in the cache
  std::vector<BlockId> blocks;
  std::vector<BlockHash> block_hashes;  // of full blocks, made as they are asked for
  int64_t indexed_blocks = 0;           // leading blocks already offered to the prefix index
  bool started = false;                 // its prefix query is counted once, not again after pre-emption
  bool long_prompt = false;             // more than long-prefill-token-threshold to compute when it started
  TokenOutput event;                    // the next event; most fields stay from one to the next

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t uncomputed_tokens() const { return num_tokens() - computed_tokens; }
  // Its last token is drawn by a step under way: nothing is left to compute.
  bool complete() const { return event.output_tokens + undrawn_tokens >= sampling.max_tokens; }
  bool ended() const { return event.finish != FinishReason::kNone; }
};

using SequenceList = std::list<Sequence>;

// The request's n sequences, with ids from `first` upwards, every vector with its final capacity. The request has
// passed admit().
SequenceList make_sequences(SeqId first, EngineRequest request, uint64_t engine_seed, int64_t block_size);

// For choice 0 of a request with a seed that seed; else one mixed from the seed and the choice, or without a seed
// from the engine's and the sequence id.
uint64_t sequence_seed(const SamplingParams& sampling, int32_t choice, uint64_t engine_seed, SeqId id);

// How many of the sequence's next tokens a step may compute when it has `rows` of logits for scoring prompts.
int64_t tokens_within_rows(const Sequence& sequence, int64_t rows);
// How many rows that takes for the next `tokens` tokens after the first `computed`.
int64_t scoring_rows(const Sequence& sequence, int64_t computed, int64_t tokens);

}  // namespace crible
