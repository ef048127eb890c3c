#include "engine/published.h"

#include <gtest/gtest.h>

#include <thread>

namespace crible {
namespace {

struct Pair {
  uint64_t a = 0, b = 0;
};

TEST(Published, ReadersNeverSeeHalfAWrite) {
  Published<Pair> published;
  std::atomic<bool> done{false};
  std::thread reader([&] {
    uint64_t last = 0;
    while (!done) {
      const Pair pair = published.load();
      ASSERT_EQ(pair.b, 3 * pair.a);
      ASSERT_GE(pair.a, last);
      last = pair.a;
    }
  });
  for (uint64_t i = 1; i <= 200'000; ++i) published.store({i, 3 * i});
  done = true;
  reader.join();
  EXPECT_EQ(published.load().a, 200'000u);
}

}  // namespace
}  // namespace crible
