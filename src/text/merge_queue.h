// The merging at the heart of BPE (Sennrich et al. 2016): of all neighbouring symbols the pair with
// the best rank becomes one, leftmost on a tie, until no pair has a rank. A heap and a linked list:
// n log n in the number of symbols whatever they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/units.h"

namespace crible {

inline constexpr uint32_t kNoMergeRank = UINT32_MAX;
inline constexpr TokenId kNoToken = -1;

struct Merge {
  uint32_t rank = kNoMergeRank;  // lower merges first
  TokenId token = kNoToken;
};

struct MergeSymbol {
  static constexpr uint32_t kEnd = UINT32_MAX;  // no neighbour

  TokenId token;
  uint32_t begin;  // place in the word, where the source of merges needs the text
  uint32_t end;
  uint32_t previous;
  uint32_t next;
  uint32_t rank;  // of the pair (this, next); kNoMergeRank when it does not merge or has ended
};

// Scratch space of one thread, kept between words.
class MergeQueue {
 public:
  // Starts a word of these symbols, none merged yet.
  void clear() { symbols_.clear(); }
  void add(TokenId token, uint32_t begin, uint32_t end) {
    const uint32_t index = static_cast<uint32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back(
        {token, begin, end, index == 0 ? MergeSymbol::kEnd : index - 1, MergeSymbol::kEnd, kNoMergeRank});
  }

  // find(left, right) -> Merge. Two pairs of one rank at one place must be one pair, or be
  // equally good: an entry of the queue is known by rank and place alone.
  template <typename FindMerge>
  void merge_all(const FindMerge& find) {
    const auto entry = [&](uint32_t place) {
      return static_cast<uint64_t>(symbols_[place].rank) << 32 | place;
    };
    heap_.clear();
    for (uint32_t i = 0; i < symbols_.size(); ++i) {
      rank_pair(i, find);
      if (symbols_[i].rank != kNoMergeRank) heap_.push_back(entry(i));
    }
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
    const auto enqueue = [&](uint32_t place) {
      rank_pair(place, find);
      if (symbols_[place].rank == kNoMergeRank) return;
      heap_.push_back(entry(place));
      std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
      ++steps_;
    };
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      const uint64_t top = heap_.back();
      heap_.pop_back();
      ++steps_;
      const uint32_t left = static_cast<uint32_t>(top);
      if (symbols_[left].rank != static_cast<uint32_t>(top >> 32)) continue;  // changed since it was queued
      MergeSymbol& symbol = symbols_[left];
      const MergeSymbol right = symbols_[symbol.next];
      symbol.token = find(symbol, right).token;
      symbol.end = right.end;
      symbols_[symbol.next].rank = kNoMergeRank;
      symbol.next = right.next;
      if (right.next != MergeSymbol::kEnd) symbols_[right.next].previous = left;
      enqueue(left);
      if (symbol.previous != MergeSymbol::kEnd) enqueue(symbol.previous);
    }
  }

  // After merge_all: visit(symbol) for what is left, from the left.
  template <typename Visit>
  void for_each(const Visit& visit) const {
    if (symbols_.empty()) return;
    for (uint32_t i = 0; i != MergeSymbol::kEnd; i = symbols_[i].next) visit(symbols_[i]);
  }

  // Work done so far: pair look-ups and queue entries.
  uint64_t steps() const { return steps_; }

 private:
  template <typename FindMerge>
  void rank_pair(uint32_t left, const FindMerge& find) {
    MergeSymbol& symbol = symbols_[left];
    symbol.rank = kNoMergeRank;
    if (symbol.next == MergeSymbol::kEnd) return;
    ++steps_;
    symbol.rank = find(symbol, symbols_[symbol.next]).rank;
  }

  std::vector<MergeSymbol> symbols_;
  std::vector<uint64_t> heap_;  // rank << 32 | place, least first
  uint64_t steps_ = 0;
};

}  // namespace crible
