#define XXH_INLINE_ALL
#include "engine/prefix_index.h"

#include <xxhash.h>

#include <bit>

#include "base/check.h"

namespace crible {

BlockHash chain_start(uint64_t salt) {
  const XXH128_hash_t hash = XXH3_128bits(&salt, sizeof(salt));
  return {hash.low64, hash.high64};
}

BlockHash chain_hash(const BlockHash& parent, std::span<const TokenId> tokens) {
  // Half of the parent's name enters as the seed, half is folded in with full mixing afterwards.
  const XXH128_hash_t own = XXH3_128bits_withSeed(tokens.data(), tokens.size_bytes(), parent.low);
  const uint64_t words[] = {own.low64, own.high64, parent.low, parent.high};
  const XXH128_hash_t hash = XXH3_128bits(words, sizeof(words));
  return {hash.low64, hash.high64};
}

// At most half full, so probes stay short.
PrefixIndex::PrefixIndex(int64_t num_blocks)
    : slots_(std::bit_ceil(static_cast<size_t>(num_blocks) * 2 + 1), kEmpty),
      names_(static_cast<size_t>(num_blocks)),
      mask_(slots_.size() - 1) {}

size_t PrefixIndex::slot_of(const BlockHash& hash) const {
  size_t slot = home(hash);
  while (slots_[slot] != kEmpty && name(slots_[slot]) != hash) slot = (slot + 1) & mask_;
  return slot;
}

std::optional<BlockId> PrefixIndex::find(const BlockHash& hash) const {
  const int32_t block = slots_[slot_of(hash)];
  if (block == kEmpty) return std::nullopt;
  return BlockId{block};
}

bool PrefixIndex::insert(const BlockHash& hash, BlockId block) {
  const size_t slot = slot_of(hash);
  if (slots_[slot] != kEmpty) return false;
  slots_[slot] = block.value;
  names_[static_cast<size_t>(block.value)] = hash;
  size_ += 1;
  return true;
}

void PrefixIndex::erase(BlockId block) {
  size_t hole = slot_of(name(block.value));
  CHECK(slots_[hole] == block.value, "block {} is not in the prefix index", block.value);
  // Later entries of the probe run move up, so that no search stops at the hole before them.
  for (size_t slot = (hole + 1) & mask_; slots_[slot] != kEmpty; slot = (slot + 1) & mask_) {
    const size_t distance_to_home = (slot - home(name(slots_[slot]))) & mask_;
    if (distance_to_home < ((slot - hole) & mask_)) continue;
    slots_[hole] = slots_[slot];
    hole = slot;
  }
  slots_[hole] = kEmpty;
  size_ -= 1;
}

}  // namespace crible
