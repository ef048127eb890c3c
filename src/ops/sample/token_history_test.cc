#include "ops/sample/token_history.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace crible {
namespace {

TEST(TokenHistory, CountsLikeAMap) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    // Few and many distinct tokens; neighbours and multiples of large powers of two, which collide in a bad table.
    const uint64_t distinct = 1 + random() % 300, factor = uint64_t{1} << (random() % 3 * 11);
    const auto token = [&] { return static_cast<TokenId>(random() % distinct * factor); };
    std::vector<TokenId> prompt(random() % 100);
    for (TokenId& t : prompt) t = token();
    const int64_t output = static_cast<int64_t>(random() % 200);
    TokenHistory history(prompt, output);
    std::map<TokenId, int32_t> expected;
    for (const TokenId t : prompt) expected[t] = 0;
    for (int64_t i = 0; i < output; ++i) {
      const TokenId t = token();
      history.append(t);
      expected[t] += 1;
    }
    std::map<TokenId, int32_t> counted;
    for (const TokenCount& count : history.counts()) {
      EXPECT_TRUE(counted.emplace(count.id, count.in_output).second) << "each token once";
    }
    ASSERT_EQ(counted, expected);
  }
}

}  // namespace
}  // namespace crible
