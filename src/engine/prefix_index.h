// Which block holds the keys and values of which token prefix. A full block is named by a 128-bit
// hash (XXH3) chained over its parent's name and its own tokens; the chain starts from the request's
// salt, so equal tokens after different beginnings, or under different salts, never meet. A table of
// open addresses sized for all blocks: no call allocates. Engine thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"

namespace crible {

struct BlockHash {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const BlockHash&) const = default;
};

BlockHash chain_start(uint64_t salt);
BlockHash chain_hash(const BlockHash& parent, std::span<const TokenId> tokens);

class PrefixIndex {
 public:
  explicit PrefixIndex(int64_t num_blocks);

  std::optional<BlockId> find(const BlockHash& hash) const;
  // False if the hash is known already: the first block keeps the name. A block has one name at most.
  bool insert(const BlockHash& hash, BlockId block);
  // The block must be in the index.
  void erase(BlockId block);
  // Of a block in the index.
  const BlockHash& name_of(BlockId block) const { return name(block.value); }
  int64_t size() const { return size_; }

 private:
  static constexpr int32_t kEmpty = -1;
  size_t home(const BlockHash& hash) const { return hash.low & mask_; }
  // The slot of the hash, or the empty slot where it would go.
  size_t slot_of(const BlockHash& hash) const;
  const BlockHash& name(int32_t block) const { return names_[static_cast<size_t>(block)]; }

  std::vector<int32_t> slots_;    // block, or kEmpty
  std::vector<BlockHash> names_;  // by block
  size_t mask_;
  int64_t size_ = 0;
};

}  // namespace crible
