// Gives sequences their KV blocks: from the prefix index where an earlier prompt left them, from the
// pool otherwise. Keeps pool and index in agreement: a block is cached in the pool exactly while it
// has a name in the index. Allocates nothing after construction. Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_index.h"
#include "engine/sequence.h"

namespace crible {

enum class StartResult {
  kStarted,
  kNoBlocks,       // fewer than the headroom would stay available
  kTooManyTokens,  // more than the budget would be left to compute
};

struct BlockCopy {
  BlockId from;
  BlockId to;
};

struct CachedBlock {
  BlockHash name;
  BlockId block;
};

class KvAllocator {
 public:
  KvAllocator(int64_t num_blocks, int64_t block_size, bool prefix_caching);

  // Blocks for all of the sequence's tokens, its cached prefix first. Sets computed_tokens to the
  // cached prefix, which always leaves at least the last token to be computed. Nothing changes unless
  // it started.
  StartResult start(Sequence& sequence, int64_t headroom, int64_t budget);
  // Starts the fork behind all but the last token of the prompt that it shares with `source`, whose
  // prompt is computed. Full blocks are shared; of a partial one, into which the fork is about to write,
  // a copy is asked for in `copies`. So no block with two references is ever written.
  StartResult fork(const Sequence& source, Sequence& fork, int64_t headroom, std::vector<BlockCopy>& copies);
  // Blocks that start() would take from the available ones.
  int64_t blocks_to_start(Sequence& sequence);
  // Blocks that would become available if this sequence alone were released.
  int64_t sole_blocks(const Sequence& sequence) const;
  // One more block if the next token needs one. False if there is none.
  bool extend(Sequence& sequence);
  // Offers the blocks that the first `tokens` tokens fill to the prefix index; they are computed, and known.
  void index_full_blocks(Sequence& sequence, int64_t tokens);
  // Releases the blocks, last first, so that the ends of prefixes are evicted before their starts.
  void release(Sequence& sequence);
  // The sequence's content is not to be trusted: takes its blocks out of the prefix index.
  void forget_content(Sequence& sequence);
  // Takes every block out of the prefix index.
  void clear_prefixes();

  // What the prefix index holds, those longest unused first.
  std::vector<CachedBlock> cached_blocks() const;
  // A block for content of this name that was computed in another life; the caller fills it before the
  // next call. Nothing if the name is known already or no block is empty.
  std::optional<BlockId> adopt(const BlockHash& name);

  bool prefix_caching() const { return prefix_caching_; }
  int64_t block_size() const { return block_size_; }
  const BlockPool& pool() const { return pool_; }
  int64_t indexed_blocks() const { return index_.size(); }
  int64_t queried_tokens() const { return queried_tokens_; }
  int64_t hit_tokens() const { return hit_tokens_; }

 private:
  // Number of leading blocks found in the index; their ids go to found_.
  int64_t find_prefix(Sequence& sequence);
  // Of the available blocks, how many go when found_ is shared and the rest allocated.
  int64_t taken_behind_found(const Sequence& sequence) const;
  void share(Sequence& sequence, BlockId block);
  const BlockHash& hash_of(Sequence& sequence, int64_t block);
  BlockId take_block();
  void forget(BlockId block);

  int64_t block_size_;
  bool prefix_caching_;
  BlockPool pool_;
  PrefixIndex index_;
  std::vector<BlockId> found_;
  int64_t queried_tokens_ = 0;
  int64_t hit_tokens_ = 0;
};

}  // namespace crible
