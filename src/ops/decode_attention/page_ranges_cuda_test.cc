#include "ops/decode_attention/page_ranges.h"

#include <gtest/gtest.h>

#include "ops/random_values.h"

namespace crible::cuda {
namespace {

TEST(PageRanges, StretchesFollowOneAnotherAndDifferByOnePage) {
  RandomValues random(1);
  for (int round = 0; round < 200; ++round) {
    const int total = static_cast<int>(random.integer(1, 100'000));
    const int workers = static_cast<int>(random.integer(1, 600));
    const PageRanges ranges = PageRanges::of(total, workers, 8);
    ASSERT_LE(ranges.workers, workers);
    ASSERT_EQ(ranges.begin(0), 0);
    ASSERT_EQ(ranges.begin(ranges.workers), total);
    for (int w = 0; w < ranges.workers; ++w) {
      const int pages = ranges.begin(w + 1) - ranges.begin(w);
      ASSERT_GE(pages, total / ranges.workers);
      ASSERT_LE(pages, total / ranges.workers + 1);
      ASSERT_EQ(ranges.worker_of(ranges.begin(w)), w);
      ASSERT_EQ(ranges.worker_of(ranges.begin(w + 1) - 1), w);
    }
  }
}

TEST(PageRanges, FewPagesAreNotSharedOut) {
  EXPECT_EQ(PageRanges::of(1, 400, 8).workers, 1);
  EXPECT_EQ(PageRanges::of(15, 400, 8).workers, 1);
  EXPECT_EQ(PageRanges::of(80, 400, 8).workers, 10);
}

// Pages times workers passes 32 bits.
TEST(PageRanges, ManyPagesOfManyWorkers) {
  const PageRanges ranges = PageRanges::of(2'000'000'000, 1000, 8);
  EXPECT_EQ(ranges.begin(999), 1'998'000'000);
  EXPECT_EQ(ranges.worker_of(1'999'999'999), 999);
}

}  // namespace
}  // namespace crible::cuda
