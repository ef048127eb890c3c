#include "ops/sample/repetition_matches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

namespace crible {
namespace {

// The definition, read off the whole sequence: for every earlier place, how far back it goes together with the end.
std::map<TokenId, float> by_definition(const std::vector<TokenId>& all, const RepetitionLimits& limits,
                                       const std::vector<TokenId>& breakers) {
  const auto breaks = [&](TokenId t) { return std::find(breakers.begin(), breakers.end(), t) != breakers.end(); };
  const size_t from = limits.range < 0 ? 0 : all.size() - std::min(all.size(), static_cast<size_t>(limits.range));
  const std::vector<TokenId> tokens(all.begin() + static_cast<std::ptrdiff_t>(from), all.end());
  std::map<TokenId, float> penalties;
  for (size_t next = 1; next < tokens.size(); ++next) {
    size_t length = 0;
    while (length < next && tokens[next - 1 - length] == tokens[tokens.size() - 1 - length] &&
           !breaks(tokens[next - 1 - length])) {
      ++length;
    }
    if (length == 0 || static_cast<int64_t>(length) < limits.allowed_length || breaks(tokens[next])) continue;
    const double penalty = static_cast<double>(limits.multiplier) *
                           std::pow(static_cast<double>(limits.base),
                                    static_cast<double>(static_cast<int64_t>(length) - limits.allowed_length));
    float& value = penalties[tokens[next]];
    value = std::min(value, static_cast<float>(-std::min(penalty, 1e30)));
  }
  return penalties;
}

std::map<TokenId, float> as_map(std::span<const AddedLogit> penalties) {
  std::map<TokenId, float> map;
  for (const AddedLogit& p : penalties) EXPECT_TRUE(map.emplace(p.id, p.value).second) << "each token once";
  return map;
}

TEST(RepetitionMatches, FollowTheDefinitionTokenByToken) {
  std::mt19937_64 random(9);
  int64_t penalised = 0;
  for (int round = 0; round < 1000; ++round) {
    const uint64_t distinct = 1 + random() % 6;
    const auto token = [&] { return static_cast<TokenId>(random() % distinct); };
    const RepetitionLimits limits = {.multiplier = 0.8f, .base = 1.75f,
                                     .allowed_length = static_cast<int64_t>(1 + random() % 4),
                                     .range = random() % 2 == 0 ? -1 : static_cast<int64_t>(random() % 30)};
    std::vector<TokenId> breakers;
    if (random() % 2 == 0) breakers = {token(), static_cast<TokenId>(distinct + 5)};
    std::vector<TokenId> tokens(random() % 40);
    for (TokenId& t : tokens) t = token();
    const int64_t output = static_cast<int64_t>(random() % 40);
    RepetitionMatches matches(limits, breakers, tokens, output);
    for (int64_t i = 0;; ++i) {
      const auto expected = by_definition(tokens, limits, breakers);
      ASSERT_EQ(as_map(matches.penalties()), expected) << "round " << round << ", token " << tokens.size();
      penalised += static_cast<int64_t>(expected.size());
      if (i == output) break;
      tokens.push_back(token());
      matches.append(tokens.back());
    }
  }
  EXPECT_GT(penalised, 10'000);
}

// A prompt of one token over and over is the worst for a search that looks back from every place: it would
// take the square of the length, here 10^11 steps.
TEST(RepetitionMatches, TakeAHostilePromptInLinearTime) {
  const std::vector<TokenId> prompt(300'000, 7);
  RepetitionMatches matches({.multiplier = 1, .base = 1.5f}, {}, prompt, 4);
  ASSERT_EQ(matches.penalties().size(), 1u);
  EXPECT_EQ(matches.penalties()[0].id, 7);
  EXPECT_TRUE(std::isfinite(matches.penalties()[0].value));
  matches.append(8);
  EXPECT_TRUE(matches.penalties().empty());
}

}  // namespace
}  // namespace crible
