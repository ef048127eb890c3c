#include "engine/block_pool.h"

#include "base/check.h"

namespace crible {

BlockPool::BlockPool(int64_t num_blocks)
    : nodes_(static_cast<size_t>(num_blocks) + 2),
      empty_head_(static_cast<int32_t>(num_blocks)),
      cached_head_(static_cast<int32_t>(num_blocks) + 1),
      available_(num_blocks) {
  for (const int32_t head : {empty_head_, cached_head_}) {
    nodes_[static_cast<size_t>(head)] = {head, head, 0, false};
  }
  for (int32_t block = 0; block < empty_head_; ++block) link_before(block, empty_head_);
}

std::optional<BlockPool::Allocation> BlockPool::allocate() {
  if (available_ == 0) return std::nullopt;
  const bool evict = ring_empty(empty_head_);
  const int32_t block = nodes_[static_cast<size_t>(evict ? cached_head_ : empty_head_)].next;
  unlink(block);
  Node& node = nodes_[static_cast<size_t>(block)];
  node.references = 1;
  node.cached = false;
  available_ -= 1;
  return Allocation{BlockId{block}, evict};
}

void BlockPool::reference(BlockId block) {
  Node& node = at(block);
  if (node.references == 0) {
    CHECK(node.cached, "block {} is empty and cannot be shared", block.value);
    unlink(block.value);
    available_ -= 1;
  }
  node.references += 1;
}

void BlockPool::release(BlockId block) {
  Node& node = at(block);
  CHECK(node.references > 0, "block {} released once too often", block.value);
  if (--node.references > 0) return;
  available_ += 1;
  if (node.cached) {
    link_before(block.value, cached_head_);
  } else {
    // To the front: the block used last is the one still in the processor's caches.
    link_before(block.value, nodes_[static_cast<size_t>(empty_head_)].next);
  }
}

void BlockPool::set_cached(BlockId block, bool cached) {
  Node& node = at(block);
  if (node.cached == cached) return;
  node.cached = cached;
  if (node.references > 0) return;
  CHECK(!cached, "block {} is empty and cannot become cached", block.value);
  unlink(block.value);
  link_before(block.value, empty_head_);
}

std::vector<BlockId> BlockPool::cached_blocks() const {
  std::vector<BlockId> blocks;
  for (int32_t node = nodes_[static_cast<size_t>(cached_head_)].next; node != cached_head_;
       node = nodes_[static_cast<size_t>(node)].next) {
    blocks.push_back(BlockId{node});
  }
  for (int32_t block = 0; block < empty_head_; ++block) {
    const Node& node = nodes_[static_cast<size_t>(block)];
    if (node.cached && node.references > 0) blocks.push_back(BlockId{block});
  }
  return blocks;
}

void BlockPool::unlink(int32_t node) {
  const Node& n = nodes_[static_cast<size_t>(node)];
  nodes_[static_cast<size_t>(n.previous)].next = n.next;
  nodes_[static_cast<size_t>(n.next)].previous = n.previous;
}

void BlockPool::link_before(int32_t node, int32_t successor) {
  const int32_t previous = nodes_[static_cast<size_t>(successor)].previous;
  nodes_[static_cast<size_t>(node)].previous = previous;
  nodes_[static_cast<size_t>(node)].next = successor;
  nodes_[static_cast<size_t>(previous)].next = node;
  nodes_[static_cast<size_t>(successor)].previous = node;
}

}  // namespace crible
