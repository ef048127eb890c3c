// Gives sequences their KV blocks: from the prefix index where an earlier prompt left them, from the
// pool otherwise. Keeps pool and index in agreement: a block is cached in the pool exactly while it
// has a name in the index. Allocates nothing after construction. Engine thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_index.h"
#include "engine/sequence.h"

namespace crible {

class KvAllocator {
 public:
  KvAllocator(int64_t num_blocks, int64_t block_size, bool prefix_caching);

  // Blocks for all of the sequence's tokens, its cached prefix first. Sets computed_tokens to the
  // cached prefix, which always leaves at least the last token to be computed. False, and nothing
  // changed, if fewer than `headroom` blocks would stay available or if more than `budget` tokens
  // would be left to compute.
  bool start(Sequence& sequence, int64_t headroom, int64_t budget);
  // One more block if the next token needs one. False if there is none.
  bool extend(Sequence& sequence);
  // Offers the blocks filled by computed_tokens to the prefix index.
  void index_full_blocks(Sequence& sequence);
  // Releases the blocks, last first, so that the ends of prefixes are evicted before their starts.
  void release(Sequence& sequence);
  // The sequence's content is not to be trusted: takes its blocks out of the prefix index.
  void forget_content(Sequence& sequence);
  // Takes every block out of the prefix index.
  void clear_prefixes();

  const BlockPool& pool() const { return pool_; }
  int64_t indexed_blocks() const { return index_.size(); }
  int64_t queried_tokens() const { return queried_tokens_; }
  int64_t hit_tokens() const { return hit_tokens_; }

 private:
  // Number of leading blocks found in the index; their ids go to found_.
  int64_t find_prefix(Sequence& sequence);
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
