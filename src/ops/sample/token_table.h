// A small number for each token that was asked for, in open addressing: allocates at construction only.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/units.h"

namespace crible {

class TokenTable {
 public:
  // distinct: how many different tokens will be asked for at most.
  explicit TokenTable(size_t distinct) : entries_(std::bit_ceil(2 * distinct + 1), Entry{-1, -1}) {}

  // The token's number; -1 when it is asked for the first time. token >= 0.
  int32_t& operator[](TokenId token) {
    const size_t mask = entries_.size() - 1;
    // Fibonacci hashing (Knuth 1973) spreads neighbouring ids.
    size_t slot = static_cast<size_t>((static_cast<uint64_t>(token) * 0x9e3779b97f4a7c15u) >> 32) & mask;
    while (entries_[slot].token >= 0 && entries_[slot].token != token) slot = (slot + 1) & mask;
    entries_[slot].token = token;
    return entries_[slot].number;
  }

 private:
  struct Entry {
    TokenId token;  // -1 = free
    int32_t number;
  };
  std::vector<Entry> entries_;  // a power of two, at most half in use
};

}  // namespace crible
