#include "engine/prefix_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace crible {
namespace {

using Key = std::pair<uint64_t, uint64_t>;
Key key(const BlockHash& hash) { return {hash.low, hash.high}; }

TEST(ChainHash, DependsOnSaltParentTokensAndTheirOrder) {
  std::vector<TokenId> a(16, 5), b = a;
  b[3] = 6;
  std::vector<TokenId> swapped = b;
  std::swap(swapped[3], swapped[9]);
  std::set<Key> names;
  for (const uint64_t salt : {0, 1, 2}) {
    const BlockHash start = chain_start(salt);
    for (const auto& tokens : {a, b, swapped}) {
      const BlockHash first = chain_hash(start, tokens);
      names.insert(key(first));
      names.insert(key(chain_hash(first, a)));
      EXPECT_EQ(first, chain_hash(chain_start(salt), tokens));
    }
  }
  EXPECT_EQ(names.size(), 18u);
}

TEST(ChainHash, BothHalvesOfTheParentMatter) {
  const std::vector<TokenId> tokens(16, 1);
  const BlockHash base{1, 2};
  EXPECT_NE(chain_hash(base, tokens), chain_hash({1, 3}, tokens));
  EXPECT_NE(chain_hash(base, tokens), chain_hash({2, 2}, tokens));
}

// Hashes are drawn from few low words, so that probe runs are long and wrap around.
TEST(PrefixIndex, AgreesWithAMapUnderCollisions) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 60; ++round) {
    const int n = 1 + static_cast<int>(random() % 40);
    PrefixIndex index(n);
    std::map<Key, int32_t> known;
    std::map<int32_t, BlockHash> names;
    for (int step = 0; step < 600; ++step) {
      const BlockHash hash{random() % 5 * 13 + (random() % 2 ? ~uint64_t{0} - 3 : 0), random() % 9};
      const auto block = static_cast<int32_t>(random() % static_cast<unsigned>(n));
      if (names.contains(block)) {
        if (random() % 2) {
          index.erase(BlockId{block});
          known.erase(key(names.at(block)));
          names.erase(block);
        }
      } else {
        const bool fresh = !known.contains(key(hash));
        ASSERT_EQ(index.insert(hash, BlockId{block}), fresh);
        if (fresh) {
          known[key(hash)] = block;
          names[block] = hash;
        }
      }
      ASSERT_EQ(index.size(), static_cast<int64_t>(known.size()));
      const BlockHash probe{random() % 5 * 13 + (random() % 2 ? ~uint64_t{0} - 3 : 0), random() % 9};
      const auto found = index.find(probe);
      const auto expected = known.find(key(probe));
      ASSERT_EQ(found.has_value(), expected != known.end());
      if (found) {
        ASSERT_EQ(found->value, expected->second);
      }
    }
    for (const auto& [name, block] : known) ASSERT_EQ(index.find({name.first, name.second})->value, block);
  }
}

}  // namespace
}  // namespace crible
