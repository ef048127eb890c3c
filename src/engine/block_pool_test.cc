#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

namespace crible {
namespace {

TEST(BlockPool, GivesEveryBlockOnceAndThenNone) {
  BlockPool pool(5);
  std::vector<int32_t> seen;
  while (const auto a = pool.allocate()) {
    EXPECT_FALSE(a->evicted_cache);
    seen.push_back(a->block.value);
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(seen, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.available(), 0);
}

TEST(BlockPool, EvictsLeastRecentlyUsedCachedBlockAfterEmptyOnes) {
  BlockPool pool(3);
  const BlockId a = pool.allocate()->block, b = pool.allocate()->block, c = pool.allocate()->block;
  pool.set_cached(a, true);
  pool.set_cached(b, true);
  pool.release(a);
  pool.release(b);
  pool.release(c);
  pool.reference(a);  // used again: now the most recent
  pool.release(a);
  EXPECT_EQ(pool.allocate()->block, c);
  const auto first = pool.allocate();
  EXPECT_EQ(first->block, b);
  EXPECT_TRUE(first->evicted_cache);
  EXPECT_EQ(pool.allocate()->block, a);
}

// Against a plain model of the same rules, over random operations.
TEST(BlockPool, AgreesWithAPlainModel) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    const int n = 1 + static_cast<int>(random() % 12);
    BlockPool pool(n);
    std::vector<int> references(static_cast<size_t>(n), 0);
    std::vector<bool> cached(static_cast<size_t>(n), false);
    std::deque<int> order;  // unreferenced cached blocks, least recently used first
    for (int step = 0; step < 400; ++step) {
      const int block = static_cast<int>(random() % static_cast<unsigned>(n));
      const auto index = static_cast<size_t>(block);
      switch (random() % 4) {
        case 0: {
          const int64_t free = std::count(references.begin(), references.end(), 0);
          const auto a = pool.allocate();
          ASSERT_EQ(a.has_value(), free > 0);
          if (!a) break;
          const auto got = static_cast<size_t>(a->block.value);
          ASSERT_EQ(references[got], 0);
          ASSERT_EQ(a->evicted_cache, free == static_cast<int64_t>(order.size()));
          if (a->evicted_cache) {
            ASSERT_EQ(a->block.value, order.front());
            order.pop_front();
          } else {
            ASSERT_FALSE(cached[got]);
          }
          references[got] = 1;
          cached[got] = false;
          break;
        }
        case 1:
          if (references[index] == 0 && !cached[index]) break;
          pool.reference(BlockId{block});
          if (references[index]++ == 0) std::erase(order, block);
          break;
        case 2:
          if (references[index] == 0) break;
          pool.release(BlockId{block});
          if (--references[index] == 0 && cached[index]) order.push_back(block);
          break;
        default:
          if (references[index] == 0) {
            pool.set_cached(BlockId{block}, false);
            std::erase(order, block);
            cached[index] = false;
          } else {
            cached[index] = random() % 2;
            pool.set_cached(BlockId{block}, cached[index]);
          }
      }
      ASSERT_EQ(pool.available(), std::count(references.begin(), references.end(), 0));
      ASSERT_EQ(pool.references(BlockId{block}), references[index]);
      ASSERT_EQ(pool.is_cached(BlockId{block}), cached[index]);
    }
  }
}

TEST(BlockPoolDeathTest, ReleaseOnceTooOftenIsBroken) {
  BlockPool pool(1);
  const BlockId block = pool.allocate()->block;
  pool.release(block);
  EXPECT_DEATH(pool.release(block), "released once too often");
}

}  // namespace
}  // namespace crible
