#include "engine/kv_allocator.h"

#include <algorithm>

#include "base/check.h"

namespace crible {

KvAllocator::KvAllocator(int64_t num_blocks, int64_t block_size, bool prefix_caching)
    : block_size_(block_size), prefix_caching_(prefix_caching), pool_(num_blocks), index_(num_blocks) {
  found_.reserve(static_cast<size_t>(num_blocks));
}

StartResult KvAllocator::start(Sequence& sequence, int64_t headroom, int64_t budget) {
  const int64_t hits = find_prefix(sequence);
  if (sequence.num_tokens() - hits * block_size_ > budget) return StartResult::kTooManyTokens;
  if (taken_behind_found(sequence) + headroom > pool_.available()) return StartResult::kNoBlocks;

  // The found blocks first: allocating may evict whatever has no reference.
  for (const BlockId block : found_) share(sequence, block);
  const int64_t blocks = ceil_div(sequence.num_tokens(), block_size_);
  for (int64_t b = hits; b < blocks; ++b) sequence.blocks.push_back(take_block());
  sequence.computed_tokens = hits * block_size_;
  sequence.indexed_blocks = hits;
  if (sequence.started) return StartResult::kStarted;
  sequence.started = true;
  sequence.event.scheduled = now();
  // The prompt of a fork is asked for, and found, once: by its source.
  if (prefix_caching_ && !sequence.fork_of) {
    sequence.event.cached_tokens = sequence.computed_tokens;
    queried_tokens_ += sequence.num_tokens();
    hit_tokens_ += sequence.computed_tokens;
  }
  return StartResult::kStarted;
}

StartResult KvAllocator::fork(const Sequence& source, Sequence& fork, int64_t headroom,
                              std::vector<BlockCopy>& copies) {
  const int64_t shared_tokens = fork.prompt_tokens - 1;
  const int64_t shared_blocks = shared_tokens / block_size_;
  const int64_t fresh = ceil_div(fork.num_tokens(), block_size_) - shared_blocks;
  if (fresh + headroom > pool_.available()) return StartResult::kNoBlocks;
  for (int64_t b = 0; b < shared_blocks; ++b) share(fork, source.blocks[static_cast<size_t>(b)]);
  for (int64_t b = 0; b < fresh; ++b) fork.blocks.push_back(take_block());
  if (shared_tokens % block_size_ != 0) {
    const auto partial = static_cast<size_t>(shared_blocks);
    copies.push_back({source.blocks[partial], fork.blocks[partial]});
  }
  fork.computed_tokens = shared_tokens;
  fork.indexed_blocks = shared_blocks;
  fork.started = true;
  fork.event.scheduled = now();
  return StartResult::kStarted;
}

int64_t KvAllocator::blocks_to_start(Sequence& sequence) {
  find_prefix(sequence);
  return taken_behind_found(sequence);
}

int64_t KvAllocator::sole_blocks(const Sequence& sequence) const {
  return std::count_if(sequence.blocks.begin(), sequence.blocks.end(),
                       [this](BlockId block) { return pool_.references(block) == 1; });
}

int64_t KvAllocator::taken_behind_found(const Sequence& sequence) const {
  const int64_t unreferenced = std::count_if(found_.begin(), found_.end(),
                                             [this](BlockId block) { return pool_.references(block) == 0; });
  return ceil_div(sequence.num_tokens(), block_size_) - static_cast<int64_t>(found_.size()) + unreferenced;
}

void KvAllocator::share(Sequence& sequence, BlockId block) {
  pool_.reference(block);
  sequence.blocks.push_back(block);
}

bool KvAllocator::extend(Sequence& sequence) {
  if (sequence.num_tokens() <= static_cast<int64_t>(sequence.blocks.size()) * block_size_) return true;
  if (pool_.available() == 0) return false;
  sequence.blocks.push_back(take_block());
  return true;
}

void KvAllocator::index_full_blocks(Sequence& sequence, int64_t tokens) {
  if (!prefix_caching_) return;
  const int64_t full = tokens / block_size_;
  for (int64_t& b = sequence.indexed_blocks; b < full; ++b) {
    const BlockId block = sequence.blocks[static_cast<size_t>(b)];
    // Another sequence may have computed the same content at the same time: the first is kept.
    if (index_.insert(hash_of(sequence, b), block)) pool_.set_cached(block, true);
  }
}

void KvAllocator::release(Sequence& sequence) {
  for (auto block = sequence.blocks.rbegin(); block != sequence.blocks.rend(); ++block) pool_.release(*block);
  sequence.blocks.clear();
  sequence.computed_tokens = 0;
  sequence.indexed_blocks = 0;
}

void KvAllocator::forget_content(Sequence& sequence) {
  for (const BlockId block : sequence.blocks) forget(block);
}

void KvAllocator::clear_prefixes() {
  for (int32_t block = 0; block < pool_.num_blocks(); ++block) forget(BlockId{block});
}

std::vector<CachedBlock> KvAllocator::cached_blocks() const {
  std::vector<CachedBlock> cached;
  for (const BlockId block : pool_.cached_blocks()) cached.push_back({index_.name_of(block), block});
  return cached;
}

std::optional<BlockId> KvAllocator::adopt(const BlockHash& name) {
  if (pool_.used() + index_.size() >= pool_.num_blocks() || index_.find(name)) return std::nullopt;
  const BlockId block = take_block();
  CHECK(index_.insert(name, block), "a name that was not there cannot be taken");
  pool_.set_cached(block, true);
  pool_.release(block);
  return block;
}

int64_t KvAllocator::find_prefix(Sequence& sequence) {
  const int64_t limit = (sequence.num_tokens() - 1) / block_size_;
  found_.clear();
  // Tokens that are not computed have no logits to score the prompt by.
  const bool scores = sequence.sampling_state != nullptr && !sequence.sampling_state->scored_all();
  if (!prefix_caching_ || scores) return 0;
  for (int64_t b = 0; b < limit; ++b) {
    const auto block = index_.find(hash_of(sequence, b));
    if (!block) break;
    found_.push_back(*block);
  }
  return static_cast<int64_t>(found_.size());
}

const BlockHash& KvAllocator::hash_of(Sequence& sequence, int64_t block) {
  auto& hashes = sequence.block_hashes;
  while (static_cast<int64_t>(hashes.size()) <= block) {
    const auto next = static_cast<int64_t>(hashes.size());
    const BlockHash parent = next == 0 ? chain_start(sequence.cache_salt) : hashes.back();
    hashes.push_back(chain_hash(parent, std::span(sequence.tokens)
                                            .subspan(static_cast<size_t>(next * block_size_),
                                                     static_cast<size_t>(block_size_))));
  }
  return hashes[static_cast<size_t>(block)];
}

BlockId KvAllocator::take_block() {
  const auto allocation = pool_.allocate();
  CHECK(allocation.has_value(), "a block was promised but none is available");
  if (allocation->evicted_cache) index_.erase(allocation->block);
  return allocation->block;
}

void KvAllocator::forget(BlockId block) {
  if (!pool_.is_cached(block)) return;
  index_.erase(block);
  pool_.set_cached(block, false);
}

}  // namespace crible
