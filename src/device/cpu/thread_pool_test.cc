#include "device/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

namespace crible {
namespace {

TEST(ThreadPool, RunsEveryTaskExactlyOnceAndShowsItsWrites) {
  for (int threads : {1, 2, 3, 8}) {
    auto pool = ThreadPool::create(threads).value();
    EXPECT_EQ(pool->threads(), threads);
    for (int64_t tasks : {0, 1, 2, 7, 1000}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<int> hits(static_cast<size_t>(tasks), 0);  // plain: the pool must order the accesses
        pool->parallel_for(tasks, [&](int64_t task, int) { ++hits[static_cast<size_t>(task)]; });
        EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), int64_t{0}), tasks);
        for (int h : hits) EXPECT_EQ(h, 1);
      }
    }
  }
}

// Scratch memory is handed out by thread number: two calls at the same time must never share one.
TEST(ThreadPool, CallsThatOverlapHaveDifferentThreadNumbers) {
  const int threads = 4;
  auto pool = ThreadPool::create(threads).value();
  std::array<std::atomic<int>, threads> busy = {};
  for (int repeat = 0; repeat < 200; ++repeat) {
    pool->parallel_for(64, [&](int64_t, int thread) {
      ASSERT_GE(thread, 0);
      ASSERT_LT(thread, threads);
      EXPECT_EQ(busy[static_cast<size_t>(thread)].fetch_add(1), 0);
      busy[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
}

// Pauses longer than the spinning time put workers to sleep: each following loop must wake them or do without.
TEST(ThreadPool, LoopsAfterAPauseStillComplete) {
  auto pool = ThreadPool::create(3).value();
  int64_t sum = 0;
  for (int repeat = 0; repeat < 40; ++repeat) {
    std::this_thread::sleep_for(std::chrono::microseconds(repeat % 4 * 100));
    std::vector<int64_t> part(3, 0);
    pool->parallel_for(100, [&](int64_t task, int thread) { part[static_cast<size_t>(thread)] += task; });
    sum += part[0] + part[1] + part[2];
  }
  EXPECT_EQ(sum, 40 * 4950);
}

// A worker that is held up in its task is waited for, even beyond the spinning time.
TEST(ThreadPool, WaitsForTheSlowestTask) {
  auto pool = ThreadPool::create(2).value();
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::array<int, 2> done = {0, 0};
    pool->parallel_for(2, [&](int64_t task, int) {
      std::this_thread::sleep_for(std::chrono::milliseconds(task == 1 ? 5 : 1));
      done[static_cast<size_t>(task)] = 1;
    });
    EXPECT_EQ(done, (std::array<int, 2>{1, 1}));
  }
}

TEST(ThreadPool, StartsAndStopsManyTimes) {
  for (int i = 0; i < 100; ++i) {
    auto pool = ThreadPool::create(4).value();
    if (i % 2 == 0) pool->parallel_for(8, [](int64_t, int) {});
  }
}

}  // namespace
}  // namespace crible
