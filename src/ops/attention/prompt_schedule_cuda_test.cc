#include "ops/attention/prompt_schedule_cuda.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "ops/random_values.h"

namespace crible::cuda {
namespace {

constexpr AttentionShape kShape = {.heads = 32, .kv_heads = 8, .head_size = 128, .scale = 1};

int64_t cost_of(const PromptSchedule& s, int block) {
  int64_t cost = 0;
  for (int32_t u = s.start[static_cast<size_t>(block)]; u < s.start[static_cast<size_t>(block) + 1]; ++u) {
    const PromptUnit& unit = s.units[static_cast<size_t>(u)];
    cost += 1 + unit.key_end - unit.key_begin;
  }
  return cost;
}

TEST(PromptSchedule, ATileSeesTheKeysOfItsLastQuery) {
  // 32 queries to a tile.
  EXPECT_EQ(visible_key_tiles(kShape, 64, 64, 0), 1);
  EXPECT_EQ(visible_key_tiles(kShape, 64, 128 + 32, 0), 1);
  EXPECT_EQ(visible_key_tiles(kShape, 64, 128 + 33, 0), 2);
  EXPECT_EQ(visible_key_tiles(kShape, 40, 128 + 8, 1), 2);
  EXPECT_EQ(visible_key_tiles(kShape, 40, 128, 1), 1);
}

// Every tile of every KV head is covered once, its parts follow one another, and no block has much more to do
// than its share.
TEST(PromptSchedule, CoversEveryTileOnceInEqualStretches) {
  RandomValues random(1);
  constexpr int kBlocks = 132;
  PromptSchedule s;
  for (int round = 0; round < 60; ++round) {
    std::vector<int32_t> query_start = {static_cast<int32_t>(random.integer(0, 50))}, kv_start = {7}, context;
    const int64_t sequences = random.integer(1, 6);
    for (int64_t i = 0; i < sequences; ++i) {
      const auto queries = static_cast<int32_t>(random.integer(2, round % 2 == 0 ? 100 : 3000));
      query_start.push_back(query_start.back() + queries);
      context.push_back(queries + static_cast<int32_t>(random.integer(0, 8000)));
      kv_start.push_back(kv_start.back() + (context.back() + 15) / 16);
    }
    plan_prompts(kShape, {query_start, kv_start, context}, kBlocks, &s);
    ASSERT_EQ(s.start.size(), kBlocks + 1u);
    ASSERT_EQ(s.start.back(), static_cast<int32_t>(s.units.size()));
    ASSERT_LE(s.parts, 2 * kBlocks);
    std::map<std::tuple<int32_t, int32_t, int32_t>, std::vector<PromptUnit>> tiles;
    for (const PromptUnit& unit : s.units) tiles[{unit.first_query, unit.tile, unit.kv_head}].push_back(unit);
    size_t expected = 0, cut = 0;
    int64_t total = 0;
    for (size_t i = 0; i < context.size(); ++i) {
      const int32_t queries = query_start[i + 1] - query_start[i];
      for (int32_t tile = 0; tile * 32 < queries; ++tile) {
        for (int32_t head = 0; head < 8; ++head, ++expected) {
          const auto found = tiles.find({query_start[i], tile, head});
          ASSERT_NE(found, tiles.end());
          const std::vector<PromptUnit>& parts = found->second;
          ASSERT_EQ(parts[0].queries, queries);
          ASSERT_EQ(parts[0].context, context[i]);
          ASSERT_EQ(parts[0].first_block, kv_start[i]);
          int32_t at = 0;
          for (size_t p = 0; p < parts.size(); ++p) {
            ASSERT_EQ(parts[p].key_begin, at);
            ASSERT_GT(parts[p].key_end, at);
            at = parts[p].key_end;
            ASSERT_EQ(parts[p].part, parts.size() == 1 ? -1 : parts[0].part + static_cast<int32_t>(p));
          }
          ASSERT_EQ(at, visible_key_tiles(kShape, queries, context[i], tile));
          total += 1 + at;
          cut += parts.size() > 1 ? 1 : 0;
        }
      }
    }
    ASSERT_EQ(tiles.size(), expected);
    ASSERT_EQ(s.merges.size(), cut);
    for (const PromptMerge& merge : s.merges) {
      const auto& parts = tiles[{merge.first_query, merge.tile, merge.kv_head}];
      ASSERT_EQ(merge.first_part, parts[0].part);
      ASSERT_EQ(merge.parts, static_cast<int32_t>(parts.size()));
    }
    // A stretch may begin before its place by what was too little to be cut (five tiles), end behind it by as
    // much, and holds a unit's cost that was counted before it, one for a unit that goes on, and what was
    // rounded off.
    for (int block = 0; block < kBlocks; ++block)
      ASSERT_LE(cost_of(s, block), total / kBlocks + 2 * 5 + 3) << block;
  }
}

}  // namespace
}  // namespace crible::cuda
