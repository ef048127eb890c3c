#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace crible {
namespace {

// Drives a scheduler as the engine does, with a made-up token for every sampled row.
class Bench {
 public:
  explicit Bench(const SchedulerLimits& limits) : scheduler(limits), limits_(limits) {}

  SeqId submit(int64_t prompt, int64_t output, TokenId first = 0, uint64_t salt = 0) {
    EngineRequest request;
    request.prompt.resize(static_cast<size_t>(prompt));
    std::iota(request.prompt.begin(), request.prompt.end(), first);
    request.sampling.max_tokens = output;
    request.cache_salt = salt;
    const SeqId id{++last_id_};
    scheduler.add(make_sequence(id, std::move(request), 0, limits_.block_size));
    return id;
  }

  // (sequence, tokens) of the step, in the plan's order.
  std::vector<std::pair<int64_t, int64_t>> step() {
    const StepPlan& plan = scheduler.plan();
    std::vector<std::pair<int64_t, int64_t>> planned;
    int64_t tokens = 0;
    for (const auto& entry : plan.entries) {
      planned.emplace_back(entry.sequence->id.value, entry.num_tokens);
      tokens += entry.num_tokens;
      EXPECT_EQ(entry.samples, entry.num_tokens == entry.sequence->uncomputed_tokens());
      EXPECT_GE(static_cast<int64_t>(entry.sequence->blocks.size()) * limits_.block_size,
                entry.sequence->computed_tokens + entry.num_tokens);
    }
    EXPECT_EQ(tokens, plan.num_tokens);
    EXPECT_LE(tokens, limits_.max_num_batched_tokens);
    EXPECT_LE(static_cast<int64_t>(plan.entries.size()), limits_.max_num_seqs);
    scheduler.advance(plan);
    for (const auto& entry : plan.entries) {
      if (!entry.samples) continue;
      Sequence& s = *entry.sequence;
      s.tokens.push_back(static_cast<TokenId>(1000 + s.num_tokens()));
      if (++s.event.output_tokens >= s.sampling.max_tokens) s.event.finish = FinishReason::kLength;
    }
    ended += static_cast<int64_t>(scheduler.take_ended().size());
    return planned;
  }

  Scheduler scheduler;
  int64_t ended = 0;

 private:
  SchedulerLimits limits_;
  int64_t last_id_ = 0;
};

using Plan = std::vector<std::pair<int64_t, int64_t>>;

TEST(Scheduler, ChunkedMixesDecodesFirstThenChunksInOneStep) {
  Bench bench({.max_num_seqs = 4, .max_num_batched_tokens = 32, .num_blocks = 100});
  bench.submit(5, 10);
  bench.submit(70, 10);
  bench.submit(8, 10);
  EXPECT_EQ(bench.step(), (Plan{{1, 5}, {2, 27}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 31}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 12}, {3, 8}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 1}, {3, 1}}));
}

TEST(Scheduler, WithoutChunksPromptsRunWholeAndDecodesWait) {
  Bench bench({.max_num_seqs = 4, .max_num_batched_tokens = 80, .num_blocks = 100, .chunked_prefill = false});
  bench.submit(5, 10);
  bench.submit(70, 10);
  bench.submit(8, 10);
  EXPECT_EQ(bench.step(), (Plan{{1, 5}, {2, 70}}));
  EXPECT_EQ(bench.step(), (Plan{{3, 8}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 1}, {3, 1}}));
  bench.submit(20, 10, /*first=*/5000);
  EXPECT_EQ(bench.step(), (Plan{{4, 20}}));
}

TEST(Scheduler, FirstComeFirstServedEvenWhenALaterOneWouldFit) {
  Bench bench({.max_num_seqs = 4, .max_num_batched_tokens = 256, .num_blocks = 10, .prefix_caching = false});
  bench.submit(100, 20);  // 7 blocks
  bench.submit(100, 2);   // does not fit beside it
  bench.submit(4, 2);     // would
  EXPECT_EQ(bench.step(), (Plan{{1, 100}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}}));
}

TEST(Scheduler, PreemptsTheNewestAndItComesBackFirst) {
  Bench bench({.max_num_seqs = 3, .max_num_batched_tokens = 64, .num_blocks = 6, .prefix_caching = false});
  bench.submit(16, 40);
  bench.submit(16, 40);
  EXPECT_EQ(bench.step(), (Plan{{1, 16}, {2, 16}}));
  while (bench.scheduler.preemptions() == 0) bench.step();
  // Both hold 3 blocks: 48 tokens, and the first needs a fourth block.
  ASSERT_EQ(bench.scheduler.running().size(), 1u);
  EXPECT_EQ(bench.scheduler.running().front().id.value, 1);
  const Sequence& newest = bench.scheduler.waiting().front();
  EXPECT_EQ(newest.id.value, 2);
  EXPECT_EQ(newest.num_tokens(), 49);
  EXPECT_EQ(newest.computed_tokens, 0);
  EXPECT_EQ(newest.event.preemptions, 1);
  while (bench.ended < 2) ASSERT_FALSE(bench.step().empty());
  EXPECT_EQ(bench.scheduler.allocator().pool().used(), 0);
}

TEST(Scheduler, CompleteHitStillComputesTheLastToken) {
  Bench bench({.max_num_seqs = 2, .max_num_batched_tokens = 512, .num_blocks = 100});
  bench.submit(64, 1);
  bench.step();
  bench.submit(64, 1);
  EXPECT_EQ(bench.step(), (Plan{{2, 16}}));
  EXPECT_EQ(bench.scheduler.allocator().queried_tokens(), 128);
  EXPECT_EQ(bench.scheduler.allocator().hit_tokens(), 48);
  bench.submit(65, 1);
  EXPECT_EQ(bench.step(), (Plan{{3, 1}}));
  bench.submit(64, 1, 0, /*salt=*/9);
  EXPECT_EQ(bench.step(), (Plan{{4, 64}}));
  bench.submit(64, 1, /*first=*/1);
  EXPECT_EQ(bench.step(), (Plan{{5, 64}}));
}

TEST(Scheduler, GeneratedTokensAreSharedToo) {
  Bench bench({.max_num_seqs = 1, .max_num_batched_tokens = 512, .num_blocks = 100});
  bench.submit(16, 17);
  std::vector<TokenId> history;
  while (bench.ended == 0) {
    bench.step();
    if (!bench.scheduler.running().empty()) history = bench.scheduler.running().front().tokens;
  }
  EngineRequest request{.prompt = history, .sampling = {.max_tokens = 1}};
  request.prompt.push_back(7);
  request.prompt.push_back(8);
  bench.scheduler.add(make_sequence(SeqId{2}, std::move(request), 0, 16));
  EXPECT_EQ(bench.step(), (Plan{{2, 2}}));
}

// Random arrivals, lengths, cancellations and pool sizes: every sequence ends, older ones are never
// overtaken, and the pool is whole afterwards.
TEST(Scheduler, LosesNothingUnderRandomLoad) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const bool chunked = random() % 2;
    const int64_t context = 100;
    SchedulerLimits limits{.max_num_seqs = 1 + static_cast<int64_t>(random() % 6), .chunked_prefill = chunked,
                           .prefix_caching = random() % 2 == 0};
    limits.max_num_batched_tokens = chunked ? limits.max_num_seqs + static_cast<int64_t>(random() % 60) : context;
    limits.num_blocks = 7 + static_cast<int64_t>(random() % 20);
    Bench bench(limits);
    int64_t submitted = 0, cancelled = 0;
    int steps = 0;
    while (submitted < 25 || !bench.scheduler.empty()) {
      if (submitted < 25 && random() % 3 == 0) {
        const int64_t prompt = 1 + static_cast<int64_t>(random() % (context - 1));
        const int64_t output = 1 + static_cast<int64_t>(random() % static_cast<unsigned>(context - prompt));
        bench.submit(prompt, output, static_cast<TokenId>(random() % 2));
        ++submitted;
      }
      if (submitted > 0 && random() % 20 == 0) {
        const SeqId id{1 + static_cast<int64_t>(random() % static_cast<unsigned>(submitted))};
        cancelled += static_cast<int64_t>(bench.scheduler.take(id).size());
      }
      const bool had_work = !bench.scheduler.empty();
      const auto planned = bench.step();
      ASSERT_EQ(planned.empty(), !had_work);
      int64_t last = 0;
      for (const SequenceList* queue : {&bench.scheduler.running(), &bench.scheduler.waiting()}) {
        for (const Sequence& s : *queue) {
          ASSERT_GT(s.id.value, last);
          last = s.id.value;
        }
      }
      ASSERT_LT(++steps, 20'000);
    }
    EXPECT_EQ(bench.ended + cancelled, 25);
    EXPECT_EQ(bench.scheduler.allocator().pool().used(), 0);
    bench.scheduler.clear_prefixes();
    EXPECT_EQ(bench.scheduler.allocator().indexed_blocks(), 0);
  }
}

}  // namespace
}  // namespace crible
