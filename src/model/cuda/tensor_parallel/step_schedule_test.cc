#include "model/cuda/tensor_parallel/step_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "model/cuda/tensor_parallel/random_shape.h"
#include "model/cuda/tensor_parallel/reference_share.h"

namespace crible::cuda {
namespace {

constexpr int64_t kRankCounts[] = {1, 2, 3, 4, 8};

// What each GPU's queue holds after a step was enqueued: parts, and the collectives that wait for all ranks.
struct Queue {
  std::vector<std::string> entries;
};

// Runs the queues as GPUs do: a collective begins when it stands at the head of every queue. False if they stop.
bool drain(std::vector<Queue>& queues) {
  std::vector<size_t> heads(queues.size(), 0);
  while (true) {
    bool moved = false;
    bool done = true;
    bool all_wait = true;
    for (size_t r = 0; r < queues.size(); ++r) {
      while (heads[r] < queues[r].entries.size() && queues[r].entries[heads[r]].starts_with("part")) {
        ++heads[r];
        moved = true;
      }
      done = done && heads[r] == queues[r].entries.size();
      all_wait = all_wait && heads[r] < queues[r].entries.size() &&
                 queues[r].entries[heads[r]] == queues[0].entries[heads[0]];
    }
    if (done) return true;
    if (all_wait) {
      for (size_t& head : heads) ++head;
      moved = true;
    }
    if (!moved) return false;
  }
}

TEST(StepSchedule, IsTheSameOnEveryRankAndComesToAnEnd) {
  RandomValues random(1);
  for (const int64_t ranks : kRankCounts) {
    const DecoderShape whole = random_shape(random, ranks);
    const ShardPlan plan = ShardPlan::create(whole, ranks).value();
    const StepSize size = {.tokens = random.integer(1, 300), .logit_rows = random.integer(1, 17)};
    std::vector<Queue> queues(static_cast<size_t>(ranks));
    int64_t enqueued = 0;
    const Status done = enqueue_in_lockstep(
        plan.shape_of(0), size,
        [&](int64_t rank, int64_t part) {
          queues[static_cast<size_t>(rank)].entries.push_back("part " + std::to_string(part));
          ++enqueued;
          return Status();
        },
        [&](const Collective& collective) {
          // No rank's host work is left for later when a collective is enqueued.
          EXPECT_EQ(enqueued % ranks, 0);
          const int64_t part = enqueued / ranks - 1;
          for (int64_t r = 0; r < ranks; ++r) {
            const Collective own = collective_after(plan.shape_of(r), part, size);
            EXPECT_EQ(own, collective) << "rank " << r << " after part " << part;
            queues[static_cast<size_t>(r)].entries.push_back((own.kind == CollectiveKind::kSum ? "sum " : "gather ") +
                                                             std::to_string(own.elements));
          }
          return Status();
        });
    ASSERT_TRUE(done);
    EXPECT_EQ(enqueued, ranks * num_parts(whole));
    EXPECT_TRUE(drain(queues)) << ranks;
    // Two sums a layer, and the logits at the end.
    EXPECT_EQ(std::ssize(queues[0].entries), 2 * num_parts(whole));
    EXPECT_TRUE(queues[0].entries.back().starts_with("gather"));
  }
}

TEST(StepSchedule, StopsAtTheFirstErrorBeforeAnybodyWaitsForIt) {
  const DecoderShape shape = ShardPlan::create(qwen3_8b(), 4).value().shape_of(0);
  int64_t exchanges = 0;
  const Status done = enqueue_in_lockstep(
      shape, {.tokens = 1, .logit_rows = 1},
      [](int64_t rank, int64_t part) -> Status {
        if (rank == 2 && part == 3) return fail(ErrorCode::kInternal, "rank 2 fails");
        return {};
      },
      [&](const Collective&) {
        ++exchanges;
        return Status();
      });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().message, "rank 2 fails");
  EXPECT_EQ(exchanges, 3);
}

TEST(StepSchedule, AStepWithoutLogitsGathersNone) {
  const DecoderShape shape = ShardPlan::create(qwen3_8b(), 2).value().shape_of(0);
  int64_t sums = 0, gathers = 0;
  ASSERT_TRUE(enqueue_in_lockstep(
      shape, {.tokens = 5, .logit_rows = 0}, [](int64_t, int64_t) { return Status(); },
      [&](const Collective& collective) {
        ++(collective.kind == CollectiveKind::kSum ? sums : gathers);
        return Status();
      }));
  EXPECT_EQ(sums, 2 * shape.layers);
  EXPECT_EQ(gathers, 0);
}

TEST(StepSchedule, BytesThatARankSends) {
  const DecoderShape shape = ShardPlan::create(qwen3_8b(), 4).value().shape_of(0);
  // 72 sums of 4,096 BF16, of which a ring sends twice three quarters; three shares of 37,984 logits.
  EXPECT_EQ(bytes_sent(shape, {.tokens = 1, .logit_rows = 1}), 72 * 2 * 8192 * 3 / 4 + 3 * 37984 * 4);
}

struct RankState {
  ReferenceDecoder decoder;
  std::vector<std::vector<double>> keys, values;
  std::vector<double> residual, partial, logits;

  // One part of one token, as step_schedule.h cuts a step.
  void run(int64_t part, int32_t token, int64_t position) {
    const DecoderShape& s = decoder.shape;
    if (part == 0) {
      const auto row = decoder.embedding.begin() + token * s.embedding;
      residual.assign(row, row + s.embedding);
    } else {
      ReferenceDecoder::add(residual, partial);
    }
    if (part + 1 == num_parts(s)) {
      logits = ReferenceDecoder::multiply(decoder.head, decoder.normed(residual, decoder.output_norm));
      logits.resize(static_cast<size_t>(s.head_rows()), std::nan(""));
      return;
    }
    const auto l = static_cast<size_t>(part / 2);
    const ReferenceLayer& layer = decoder.layers[l];
    partial = part % 2 == 0
                  ? ReferenceDecoder::multiply(layer.output,
                                               decoder.attend(layer, decoder.normed(residual, layer.attention_norm),
                                                              position, keys[l], values[l]))
                  : decoder.feed_forward(layer, decoder.normed(residual, layer.feed_forward_norm));
  }
};

std::vector<double> run_token(std::vector<RankState>& ranks, int32_t token, int64_t position) {
  const DecoderShape& s = ranks[0].decoder.shape;
  std::vector<double> logits;
  const Status done = enqueue_in_lockstep(
      s, {.tokens = 1, .logit_rows = 1},
      [&](int64_t rank, int64_t part) {
        ranks[static_cast<size_t>(rank)].run(part, token, position);
        return Status();
      },
      [&](const Collective& collective) {
        if (collective.kind == CollectiveKind::kGather) {
          for (const RankState& r : ranks) logits.insert(logits.end(), r.logits.begin(), r.logits.end());
          return Status();
        }
        std::vector<double> sum(static_cast<size_t>(collective.elements), 0.0);
        for (const RankState& r : ranks) ReferenceDecoder::add(sum, r.partial);
        for (RankState& r : ranks) r.partial = sum;
        return Status();
      });
  EXPECT_TRUE(done);
  logits.resize(static_cast<size_t>(s.vocabulary));
  return logits;
}

TEST(StepSchedule, SharesOfADecoderAddUpToTheWhole) {
  RandomValues random(4);
  for (const int64_t num_ranks : kRankCounts) {
    for (int round = 0; round < 4; ++round) {
      const DecoderShape shape = random_shape(random, num_ranks);
      const ReferenceDecoder whole(random, shape);
      const ShardPlan plan = ShardPlan::create(shape, num_ranks).value();
      std::vector<RankState> ranks;
      for (int64_t r = 0; r < num_ranks; ++r) {
        ranks.push_back({.decoder = share_of(whole, plan, r),
                         .keys = std::vector<std::vector<double>>(whole.layers.size()),
                         .values = std::vector<std::vector<double>>(whole.layers.size()),
                         .residual = {},
                         .partial = {},
                         .logits = {}});
      }
      std::vector<int32_t> tokens;
      for (int i = 0; i < 6; ++i) tokens.push_back(static_cast<int32_t>(random.integer(0, shape.vocabulary - 1)));
      const auto reference = whole.logits(tokens);
      for (size_t p = 0; p < tokens.size(); ++p) {
        const std::vector<double> logits = run_token(ranks, tokens[p], static_cast<int64_t>(p));
        EXPECT_LT(relative_distance(logits, reference[p]), 1e-12) << num_ranks << " ranks, token " << p;
      }
    }
  }
}

}  // namespace
}  // namespace crible::cuda
