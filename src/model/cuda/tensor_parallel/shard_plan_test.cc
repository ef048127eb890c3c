#include "model/cuda/tensor_parallel/shard_plan.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <vector>

#include "model/cuda/kv_pool.h"
#include "model/cuda/tensor_parallel/random_shape.h"

namespace crible::cuda {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRankCounts[] = {1, 2, 3, 4, 8};

struct Whole {
  WeightPart part;
  int64_t rows, columns;
};
std::vector<Whole> matrices(const DecoderShape& s) {
  const int64_t hidden = s.experts > 0 ? s.expert_feed_forward : s.feed_forward;
  return {{WeightPart::kEmbedding, s.vocabulary, s.embedding}, {WeightPart::kHead, s.vocabulary, s.embedding},
          {WeightPart::kQuery, s.query_size(), s.embedding},   {WeightPart::kKey, s.kv_size(), s.embedding},
          {WeightPart::kValue, s.kv_size(), s.embedding},      {WeightPart::kOutput, s.embedding, s.query_size()},
          {WeightPart::kRouter, s.experts, s.embedding},       {WeightPart::kGate, hidden, s.embedding},
          {WeightPart::kUp, hidden, s.embedding},              {WeightPart::kDown, s.embedding, hidden}};
}
// How many ranks hold each element.
int64_t copies(const ShardPlan& plan, WeightPart part) {
  switch (part) {
    case WeightPart::kEmbedding:
    case WeightPart::kRouter: return plan.ranks();
    case WeightPart::kKey:
    case WeightPart::kValue: return std::max<int64_t>(1, plan.ranks() / plan.whole().kv_heads);
    default: return 1;
  }
}

TEST(ShardPlan, SharesCoverEveryWeightAsOftenAsSaid) {
  RandomValues random(1);
  for (const int64_t ranks : kRankCounts) {
    for (int round = 0; round < 20; ++round) {
      const DecoderShape whole = random_shape(random, ranks);
      const ShardPlan plan = ShardPlan::create(whole, ranks).value();
      for (const Whole& m : matrices(whole)) {
        std::vector<int64_t> held(static_cast<size_t>(m.rows * m.columns), 0);
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const Shard shard = plan.shard(m.part, rank);
          ASSERT_LE(shard.rows.end(), m.rows) << weight_part_name(m.part);
          ASSERT_LE(shard.columns.end(), m.columns) << weight_part_name(m.part);
          for (int64_t r = shard.rows.first; r < shard.rows.end(); ++r) {
            for (int64_t c = shard.columns.first; c < shard.columns.end(); ++c) {
              ++held[static_cast<size_t>(r * m.columns + c)];
            }
          }
        }
        EXPECT_THAT(held, ::testing::Each(copies(plan, m.part))) << weight_part_name(m.part) << " by " << ranks;
      }
    }
  }
}

TEST(ShardPlan, StackedPartsFillTheMatricesOfARank) {
  RandomValues random(2);
  for (const int64_t ranks : kRankCounts) {
    const DecoderShape whole = random_shape(random, ranks);
    const ShardPlan plan = ShardPlan::create(whole, ranks).value();
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const DecoderShape own = plan.shape_of(rank);
      const auto stacked = [&](std::initializer_list<WeightPart> parts) {
        int64_t end = 0;
        for (const WeightPart part : parts) {
          EXPECT_EQ(plan.shard(part, rank).target_row, end) << weight_part_name(part);
          end += plan.shard(part, rank).rows.count;
        }
        return end;
      };
      EXPECT_EQ(stacked({WeightPart::kQuery, WeightPart::kKey, WeightPart::kValue}), own.qkv_size());
      const int64_t hidden = own.experts > 0 ? own.expert_feed_forward : own.feed_forward;
      EXPECT_EQ(stacked({WeightPart::kGate, WeightPart::kUp}), 2 * hidden);
      EXPECT_EQ(plan.shard(WeightPart::kGate, rank).rows, plan.shard(WeightPart::kUp, rank).rows);
      EXPECT_EQ(plan.shard(WeightPart::kOutput, rank).columns, plan.shard(WeightPart::kQuery, rank).rows);
      EXPECT_EQ(plan.shard(WeightPart::kDown, rank).columns, plan.shard(WeightPart::kGate, rank).rows);
      EXPECT_EQ(own.heads % own.kv_heads, 0);
      EXPECT_LE(plan.shard(WeightPart::kHead, rank).rows.count, own.head_rows());
      EXPECT_EQ(own.head_rows() % 16, 0);
      EXPECT_GE(own.embedding_rows(), own.tied ? own.first_head_row() + own.head_rows() : own.vocabulary);
    }
  }
}

// A query head's keys are those that it reads in the whole model.
TEST(ShardPlan, QueryHeadsFindTheirKeyHeads) {
  RandomValues random(3);
  for (const int64_t ranks : kRankCounts) {
    for (int round = 0; round < 20; ++round) {
      const DecoderShape whole = random_shape(random, ranks);
      const ShardPlan plan = ShardPlan::create(whole, ranks).value();
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const DecoderShape own = plan.shape_of(rank);
        for (int64_t h = 0; h < own.heads; ++h) {
          const int64_t head = plan.shard(WeightPart::kQuery, rank).rows.first / whole.head_size + h;
          const int64_t kv = plan.shard(WeightPart::kKey, rank).rows.first / whole.head_size +
                             h / (own.heads / own.kv_heads);
          EXPECT_EQ(kv, head / (whole.heads / whole.kv_heads)) << "head " << head << " of " << ranks << " ranks";
        }
      }
    }
  }
}

TEST(ShardPlan, SaysWhatCannotBeDividedAndByWhatItCan) {
  const auto refusal = [](const DecoderShape& shape, int64_t ranks) {
    const auto plan = ShardPlan::create(shape, ranks);
    return plan ? std::string("divided") : plan.error().message;
  };
  const DecoderShape dense = qwen3_8b();
  EXPECT_THAT(refusal(dense, 3), HasSubstr("tensor-parallel-size 3 does not divide the 32 query heads"));
  EXPECT_THAT(refusal(dense, 3), HasSubstr("can be divided by 1, 2, 4, 8, 16, 32"));
  EXPECT_THAT(refusal(dense, 0), HasSubstr("tensor-parallel-size is 0"));
  DecoderShape odd = dense;
  odd.heads = 36;
  odd.kv_heads = 4;
  EXPECT_THAT(refusal(odd, 3), HasSubstr("the 4 KV heads, nor is it a multiple of them"));
  odd = dense;
  odd.feed_forward = 12288 + 16;
  EXPECT_THAT(refusal(odd, 2), HasSubstr("the feed-forward width of 12304 into multiples of 16"));
  odd = qwen3_30b_a3b();
  odd.expert_feed_forward = 24;
  EXPECT_THAT(refusal(odd, 2), HasSubstr("the feed-forward width of 24"));
  for (const int64_t ranks : {1, 2, 4, 8}) EXPECT_EQ(refusal(dense, ranks), "divided");
}

TEST(ShardPlan, AFormatsTilesBlocksAndGroupsStayWhole) {
  const auto refusal = [](const DecoderShape& shape, int64_t ranks, WeightFormat format) {
    const Status fits = ShardPlan::create(shape, ranks).value().fits(format);
    return fits ? std::string() : fits.error().message;
  };
  const WeightFormat fp8_blocks(WeightType::kFp8, 128);
  for (const int64_t ranks : {1, 2, 4, 8}) {
    for (const WeightFormat format : {WeightFormat(WeightType::kBf16), WeightFormat(WeightType::kFp8), fp8_blocks,
                                      WeightFormat(WeightType::kInt4)}) {
      EXPECT_EQ(refusal(qwen3_8b(), ranks, format), "") << ranks;
    }
  }
  DecoderShape narrow = qwen3_8b();
  narrow.feed_forward = 11008;  // 86 blocks of 128
  EXPECT_EQ(refusal(narrow, 2, fp8_blocks), "");
  EXPECT_THAT(refusal(narrow, 4, fp8_blocks), HasSubstr("one share of 4 (tensor-parallel-size): the gate matrix"));
  EXPECT_THAT(refusal(narrow, 4, WeightType::kInt4), HasSubstr("cannot be kept in 4 bits"));
  EXPECT_EQ(refusal(narrow, 4, WeightType::kBf16), "");
  // Experts' widths come in multiples of 128.
  EXPECT_EQ(refusal(qwen3_30b_a3b(), 2, WeightType::kBf16), "");
  EXPECT_THAT(refusal(qwen3_30b_a3b(), 4, WeightType::kBf16), HasSubstr("one share of 4"));
}

TEST(ShardPlan, MemoryOfARank) {
  for (const int64_t ranks : {2, 4, 8, 16}) {
    for (const DecoderShape& whole : {qwen3_8b(), qwen3_32b()}) {
      const ShardPlan plan = ShardPlan::create(whole, ranks).value();
      const DecoderShape own = plan.shape_of(ranks - 1);
      // A block's keys and values are divided as far as there are heads.
      const int64_t divisor = std::min(ranks, whole.kv_heads);
      EXPECT_EQ(KvPool::bytes_per_block(own) * divisor, KvPool::bytes_per_block(whole));
      int64_t elements = (whole.layers * 2 + 1) * whole.embedding + whole.layers * 2 * whole.head_size;
      for (const Whole& m : matrices(whole)) {
        const Shard shard = plan.shard(m.part, 0);
        const bool of_layer = m.part != WeightPart::kEmbedding && m.part != WeightPart::kHead;
        elements += (of_layer ? whole.layers : 1) * shard.rows.count * shard.columns.count;
      }
      const int64_t bytes = DecoderWeights::bytes_for(own, WeightType::kBf16);
      EXPECT_GE(bytes, 2 * elements) << ranks;
      EXPECT_LT(bytes, 2 * elements + whole.layers * 8 * 256 + 16 * whole.embedding * 2) << ranks;
    }
  }
}

}  // namespace
}  // namespace crible::cuda
