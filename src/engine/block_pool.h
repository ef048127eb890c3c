// The fixed set of KV blocks: reference counts, the blocks that hold nothing of use, and the blocks
// that nobody references but whose content is cached, least recently used first. Every call is O(1)
// and allocates nothing. Knows neither what is in a block nor by what name it is cached
// (prefix_index.h). Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/units.h"

namespace crible {

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  struct Allocation {
    BlockId block;       // holds one reference
    bool evicted_cache;  // it was cached: its entry in the prefix index must go
  };
  // An empty block before a cached one; nothing when every block is referenced.
  std::optional<Allocation> allocate();
  // One more reference; an unreferenced cached block leaves the eviction order.
  void reference(BlockId block);
  // One fewer; at none the block becomes empty, or the most recently used of the cached.
  void release(BlockId block);
  // Whether the content outlives the last reference.
  void set_cached(BlockId block, bool cached);

  // All cached blocks, those longest unused first, those in use last.
  std::vector<BlockId> cached_blocks() const;

  bool is_cached(BlockId block) const { return at(block).cached; }
  int32_t references(BlockId block) const { return at(block).references; }
  int64_t num_blocks() const { return static_cast<int64_t>(nodes_.size()) - 2; }
  int64_t available() const { return available_; }  // blocks that allocate() can still give
  int64_t used() const { return num_blocks() - available_; }

 private:
  // Doubly linked rings through their two heads, which follow the blocks in nodes_.
  struct Node {
    int32_t previous;
    int32_t next;
    int32_t references;
    bool cached;
  };
  Node& at(BlockId block) { return nodes_[static_cast<size_t>(block.value)]; }
  const Node& at(BlockId block) const { return nodes_[static_cast<size_t>(block.value)]; }
  void unlink(int32_t node);
  void link_before(int32_t node, int32_t successor);
  bool ring_empty(int32_t head) const { return nodes_[static_cast<size_t>(head)].next == head; }

  std::vector<Node> nodes_;
  int32_t empty_head_;
  int32_t cached_head_;  // next = least recently used
  int64_t available_;
};

}  // namespace crible
