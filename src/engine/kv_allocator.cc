#include "engine/kv_allocator.h"

#include "base/check.h"

namespace crible {

KvAllocator::KvAllocator(int64_t num_blocks, int64_t block_size, bool prefix_caching)
    : block_size_(block_size), prefix_caching_(prefix_caching), pool_(num_blocks), index_(num_blocks) {
  found_.reserve(static_cast<size_t>(num_blocks));
}

bool KvAllocator::start(Sequence& sequence, int64_t headroom, int64_t budget) {
  const int64_t hits = prefix_caching_ ? find_prefix(sequence) : 0;
  if (sequence.num_tokens() - hits * block_size_ > budget) return false;
  int64_t taken = ceil_div(sequence.num_tokens(), block_size_) - hits;
  const int64_t fresh = taken;
  for (int64_t b = 0; b < hits; ++b) {
    if (pool_.references(found_[static_cast<size_t>(b)]) == 0) taken += 1;
  }
  if (taken + headroom > pool_.available()) return false;

  // The found blocks first: allocating may evict whatever has no reference.
  for (int64_t b = 0; b < hits; ++b) {
    pool_.reference(found_[static_cast<size_t>(b)]);
    sequence.blocks.push_back(found_[static_cast<size_t>(b)]);
  }
  for (int64_t b = 0; b < fresh; ++b) sequence.blocks.push_back(take_block());
  sequence.computed_tokens = hits * block_size_;
  sequence.indexed_blocks = hits;
  if (sequence.started) return true;
  sequence.started = true;
  sequence.event.scheduled = now();
  sequence.event.cached_tokens = sequence.computed_tokens;
  if (prefix_caching_) {
    queried_tokens_ += sequence.num_tokens();
    hit_tokens_ += sequence.computed_tokens;
  }
  return true;
}

bool KvAllocator::extend(Sequence& sequence) {
  if (sequence.num_tokens() <= static_cast<int64_t>(sequence.blocks.size()) * block_size_) return true;
  if (pool_.available() == 0) return false;
  sequence.blocks.push_back(take_block());
  return true;
}

void KvAllocator::index_full_blocks(Sequence& sequence) {
  if (!prefix_caching_) return;
  const int64_t full = sequence.computed_tokens / block_size_;
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

int64_t KvAllocator::find_prefix(Sequence& sequence) {
  const int64_t limit = (sequence.num_tokens() - 1) / block_size_;
  found_.clear();
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
