#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <random>

namespace crible {
namespace {

struct Ask {
  int64_t prompt;
  int64_t output;
  TokenId first = 0;
  uint64_t salt = 0;
  int64_t priority = 0;
  std::optional<SeqId> fork_of = {};
};

// Drives a scheduler as the engine does, with a made-up token for every sampled row.
class Bench {
 public:
  explicit Bench(const SchedulerLimits& limits) : scheduler(limits), limits_(limits) {}

  SeqId submit(int64_t prompt, int64_t output, TokenId first = 0, uint64_t salt = 0) {
    return submit({.prompt = prompt, .output = output, .first = first, .salt = salt});
  }
  SeqId submit(const Ask& ask) {
    EngineRequest request;
    request.prompt.resize(static_cast<size_t>(ask.prompt));
    std::iota(request.prompt.begin(), request.prompt.end(), ask.first);
    request.sampling.max_tokens = ask.output;
    request.cache_salt = ask.salt;
    request.priority = ask.priority;
    const SeqId id{++last_id_};
    SequenceList made = make_sequences(id, std::move(request), 0, limits_.block_size);
    made.front().fork_of = ask.fork_of;
    scheduler.add(std::move(made));
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
      expect_own_blocks(entry);
    }
    expect_exact_references();
    EXPECT_EQ(tokens, plan.num_tokens);
    EXPECT_LE(tokens, limits_.max_num_batched_tokens);
    EXPECT_LE(static_cast<int64_t>(plan.entries.size()), limits_.max_num_seqs);
    scheduler.advance(plan);
    for (const auto& entry : plan.entries) scheduler.share_computed(*entry.sequence, entry.sequence->computed_tokens);
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
  // What a step writes belongs to one sequence alone and is not named in the prefix index.
  void expect_own_blocks(const ScheduledSequence& entry) const {
    const Sequence& s = *entry.sequence;
    const BlockPool& pool = scheduler.allocator().pool();
    const int64_t last = (s.computed_tokens + entry.num_tokens - 1) / limits_.block_size;
    for (int64_t b = s.computed_tokens / limits_.block_size; b <= last; ++b) {
      const BlockId block = s.blocks[static_cast<size_t>(b)];
      EXPECT_EQ(pool.references(block), 1) << "sequence " << s.id.value << " writes a shared block";
      EXPECT_FALSE(pool.is_cached(block)) << "sequence " << s.id.value << " writes a block that others may find";
    }
  }
  // The pool's counts are those of the block tables.
  void expect_exact_references() const {
    std::map<BlockId, int32_t> counted;
    for (const Sequence& s : scheduler.running()) {
      for (const BlockId block : s.blocks) counted[block] += 1;
    }
    for (const Sequence& s : scheduler.waiting()) EXPECT_TRUE(s.blocks.empty());
    const BlockPool& pool = scheduler.allocator().pool();
    EXPECT_EQ(pool.used(), static_cast<int64_t>(counted.size()));
    for (const auto& [block, references] : counted) EXPECT_EQ(pool.references(block), references);
  }

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
  bench.scheduler.add(make_sequences(SeqId{2}, std::move(request), 0, 16));
  EXPECT_EQ(bench.step(), (Plan{{2, 2}}));
}

TEST(Scheduler, PriorityGoesFirstAndTheLastInOrderIsPreempted) {
  Bench bench({.max_num_seqs = 2, .max_num_batched_tokens = 64, .num_blocks = 40, .prefix_caching = false,
               .policy = SchedulingPolicy::kPriority});
  bench.submit({.prompt = 20, .output = 40, .priority = 5});
  bench.submit({.prompt = 20, .output = 40, .priority = 1});
  bench.submit({.prompt = 20, .output = 40, .priority = 3});
  EXPECT_EQ(bench.step(), (Plan{{2, 20}, {3, 20}}));
  // No place is free: the lower of the two gives its own up, and goes on where the others leave off.
  bench.submit({.prompt = 20, .output = 2, .priority = 2});
  EXPECT_EQ(bench.step(), (Plan{{2, 1}, {4, 20}}));
  EXPECT_EQ(bench.step(), (Plan{{2, 1}, {4, 1}}));
  EXPECT_EQ(bench.step(), (Plan{{2, 1}, {3, 21}}));
  EXPECT_EQ(bench.scheduler.preemptions(), 1);
  // An equal priority takes nothing from anyone.
  bench.submit({.prompt = 20, .output = 2, .priority = 3});
  EXPECT_EQ(bench.step(), (Plan{{2, 1}, {3, 1}}));
  while (bench.ended < 5) ASSERT_FALSE(bench.step().empty());
  EXPECT_EQ(bench.scheduler.preemptions(), 1);
}

TEST(Scheduler, PriorityTakesBlocksOnlyIfThatIsEnough) {
  Bench bench({.max_num_seqs = 4, .max_num_batched_tokens = 256, .num_blocks = 10, .prefix_caching = false,
               .policy = SchedulingPolicy::kPriority});
  bench.submit({.prompt = 60, .output = 3, .priority = 0});  // 4 blocks
  bench.submit({.prompt = 60, .output = 3, .priority = 9});  // 4 blocks
  bench.step();
  bench.submit({.prompt = 100, .output = 2, .priority = 1});  // 7 blocks: with the second's, 6 and no headroom
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 1}}));
  EXPECT_EQ(bench.scheduler.preemptions(), 0);
  bench.submit({.prompt = 60, .output = 2, .priority = 0});
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {4, 60}}));
  EXPECT_EQ(bench.scheduler.preemptions(), 1);
}

TEST(Scheduler, LongPromptsTakeTheirShareAndShortOnesPassThem) {
  Bench bench({.max_num_seqs = 8, .max_num_batched_tokens = 64, .num_blocks = 100, .prefix_caching = false,
               .long_prefill_tokens = 16, .max_long_prefills = 1});
  bench.submit(100, 4);
  bench.submit(40, 4);  // long too: waits for the first
  bench.submit(10, 4);
  EXPECT_EQ(bench.step(), (Plan{{1, 16}, {3, 10}}));
  EXPECT_EQ(bench.scheduler.num_waiting(), 1);
  bench.submit(16, 4);
  EXPECT_EQ(bench.step(), (Plan{{3, 1}, {1, 16}, {4, 16}}));
  for (int i = 0; i < 4; ++i) bench.step();
  EXPECT_EQ(bench.step(), (Plan{{1, 4}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 1}, {2, 16}}));
}

// The bound of CONTRACT.md, "Fairness", in steps and over random loads. Blocks and places suffice.
TEST(Scheduler, AShortPromptWaitsForNoMoreThanItsBound) {
  std::mt19937 random(11);
  const auto draw = [&](int64_t below) { return static_cast<int64_t>(random() % static_cast<uint64_t>(below)); };
  int64_t checked = 0;
  for (int round = 0; round < 200; ++round) {
    SchedulerLimits limits{.max_num_seqs = 24, .num_blocks = 24 * 200, .prefix_caching = false};
    limits.max_long_prefills = 1 + draw(3);
    limits.long_prefill_tokens = round % 4 == 0 ? 0 : 8 + draw(60);
    const int64_t for_long = limits.long_prefill_tokens * limits.max_long_prefills;
    limits.max_num_batched_tokens = limits.max_num_seqs + for_long + draw(100);
    const int64_t rest = limits.max_num_batched_tokens - (limits.max_num_seqs - 1) - for_long;
    Bench bench(limits);
    struct Short {
      int64_t left;   // of its prompt
      int64_t steps;  // that it may still take
    };
    std::map<int64_t, Short> shorts;
    int64_t submitted = 0;
    while (submitted < limits.max_num_seqs || !shorts.empty()) {
      if (submitted < limits.max_num_seqs && random() % 2 == 0) {
        const int64_t prompt = draw(3) == 0 ? 100 + draw(2900) : 1 + draw(40);
        const int64_t id = bench.submit(prompt, 60, static_cast<TokenId>(draw(1000))).value;
        ++submitted;
        if (limits.long_prefill_tokens == 0 || prompt <= limits.long_prefill_tokens) {
          int64_t before = prompt;
          for (const auto& [other, s] : shorts) before += s.left;
          shorts[id] = {prompt, ceil_div(before, rest)};
        }
      }
      for (const auto& [id, tokens] : bench.step()) {
        if (shorts.contains(id)) shorts[id].left -= tokens;
      }
      for (auto it = shorts.begin(); it != shorts.end();) {
        ASSERT_GT(it->second.steps--, 0) << "sequence " << it->first << " in round " << round;
        checked += it->second.left == 0 ? 1 : 0;
        it = it->second.left == 0 ? shorts.erase(it) : std::next(it);
      }
    }
  }
  EXPECT_GT(checked, 2000);
}

TEST(Scheduler, ForksShareThePromptAndCopyWhatTheyWrite) {
  Bench bench({.max_num_seqs = 4, .max_num_batched_tokens = 32, .num_blocks = 20, .prefix_caching = false});
  const SeqId source = bench.submit(40, 5);
  for (int i = 0; i < 2; ++i) bench.submit({.prompt = 40, .output = 5, .fork_of = source});
  bench.submit(8, 5, /*first=*/500);
  // They let others pass while the prompt is under way, then compute its last token alone.
  EXPECT_EQ(bench.step(), (Plan{{1, 32}}));
  EXPECT_EQ(bench.step(), (Plan{{1, 8}, {4, 8}}));
  const StepPlan& plan = bench.scheduler.plan();
  ASSERT_EQ(plan.copies.size(), 2u);
  const auto& running = bench.scheduler.running();
  const Sequence& first = running.front();
  const Sequence& fork = *std::next(running.begin());
  EXPECT_EQ(plan.copies[0].from, first.blocks[2]);
  EXPECT_EQ(plan.copies[0].to, fork.blocks[2]);
  EXPECT_EQ(fork.blocks[1], first.blocks[1]);
  EXPECT_EQ(bench.scheduler.allocator().pool().references(first.blocks[1]), 3);
  EXPECT_EQ(bench.scheduler.allocator().pool().used(), 3 + 2 + 1);
  while (bench.ended < 4) ASSERT_FALSE(bench.step().empty());
  EXPECT_EQ(bench.scheduler.allocator().pool().used(), 0);
}

TEST(Scheduler, AForkOfOneThatHasEndedStartsByItself) {
  Bench bench({.max_num_seqs = 1, .max_num_batched_tokens = 64, .num_blocks = 20});
  const SeqId source = bench.submit(40, 2);
  bench.submit({.prompt = 40, .output = 2, .fork_of = source});
  bench.step();
  bench.step();
  EXPECT_EQ(bench.step(), (Plan{{2, 8}}));
  EXPECT_EQ(bench.scheduler.allocator().queried_tokens(), 40);
  EXPECT_EQ(bench.scheduler.running().front().event.cached_tokens, 0);
}

// Random arrivals, lengths, priorities, forks, cancellations and pool sizes: every sequence ends, what
// runs and what waits keeps its order, references are exact at every step, and the pool is whole afterwards.
TEST(Scheduler, LosesNothingUnderRandomLoad) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const bool chunked = random() % 2;
    const int64_t context = 100;
    SchedulerLimits limits{.max_num_seqs = 1 + static_cast<int64_t>(random() % 6), .chunked_prefill = chunked,
                           .prefix_caching = random() % 2 == 0};
    limits.max_num_batched_tokens = chunked ? limits.max_num_seqs + static_cast<int64_t>(random() % 60) : context;
    if (random() % 2) limits.policy = SchedulingPolicy::kPriority;
    if (chunked && random() % 2) {
      limits.long_prefill_tokens = 1 + static_cast<int64_t>(random() % 50);
      limits.max_long_prefills = 1 + static_cast<int64_t>(random() % 3);
    }
    const bool overtaking = limits.policy == SchedulingPolicy::kPriority || limits.long_prefill_tokens > 0;
    limits.num_blocks = 7 + static_cast<int64_t>(random() % 20);
    Bench bench(limits);
    int64_t submitted = 0, cancelled = 0;
    int steps = 0;
    while (submitted < 25 || !bench.scheduler.empty()) {
      if (submitted < 25 && random() % 3 == 0) {
        const int64_t prompt = 1 + static_cast<int64_t>(random() % (context - 1));
        const int64_t output = 1 + static_cast<int64_t>(random() % static_cast<unsigned>(context - prompt));
        Ask ask{.prompt = prompt, .output = output, .first = static_cast<TokenId>(random() % 2),
                .priority = static_cast<int64_t>(random() % 3)};
        const SeqId source = bench.submit(ask);
        ++submitted;
        if (overtaking && submitted < 25 && random() % 2) {
          ask.fork_of = source;
          bench.submit(ask);
          ++submitted;
        }
      }
      if (submitted > 0 && random() % 20 == 0) {
        const SeqId id{1 + static_cast<int64_t>(random() % static_cast<unsigned>(submitted))};
        cancelled += static_cast<int64_t>(bench.scheduler.take(id).size());
      }
      const bool had_work = !bench.scheduler.empty();
      const auto planned = bench.step();
      ASSERT_EQ(planned.empty(), !had_work);
      std::pair<int64_t, int64_t> last = {0, 0};
      for (const SequenceList* queue : {&bench.scheduler.running(), &bench.scheduler.waiting()}) {
        if (overtaking) last = {0, 0};  // a waiting one may then have been passed
        for (const Sequence& s : *queue) {
          const std::pair<int64_t, int64_t> place = {
              limits.policy == SchedulingPolicy::kPriority ? s.priority : 0, s.id.value};
          ASSERT_GT(place, last);
          last = place;
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
