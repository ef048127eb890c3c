#include "ops/rope/rope_frequencies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

namespace crible {
namespace {

using nlohmann::json;

RopeFrequencies computed(const json& c) {
  const int64_t size = c["rotary_size"];
  const double base = c["base"];
  const std::string kind = c["kind"];
  if (kind == "linear") return linear_rope_frequencies(size, base, c["factor"]);
  const int64_t original = c["original_max_position_embeddings"];
  if (kind == "llama3") {
    return llama3_rope_frequencies(size, base, {c["factor"], c["low_freq_factor"], c["high_freq_factor"], original});
  }
  if (kind == "yarn") {
    YarnRope scaling = {.factor = c["factor"], .original_context = original, .beta_fast = c.value("beta_fast", 32.0),
                        .beta_slow = c.value("beta_slow", 1.0), .truncate = c.value("truncate", true)};
    if (c.contains("attention_factor")) scaling.attention_factor = c["attention_factor"];
    return yarn_rope_frequencies(size, base, scaling);
  }
  const std::vector<double> factors = c["long_factor"];
  return longrope_frequencies(base, factors, c["context"], original);
}

// Golden numbers of tools/make_rope_golden.py are float32: a power, two or three products and a quotient each.
TEST(RopeFrequencies, AgreeWithTransformers) {
  std::ifstream file(std::string(CRIBLE_SOURCE_DIR) + "/tests/golden/rope_frequencies.json");
  std::set<std::string> kinds;
  for (const json& c : json::parse(file)) {
    const RopeFrequencies result = computed(c);
    const std::vector<double> expected = c["inverse_frequencies"];
    ASSERT_EQ(result.inverse.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      // Where llama3 blends, float32 errs by the difference of two close numbers: 20 half units cover both.
      EXPECT_NEAR(result.inverse[i], expected[i], 20 * 0x1p-24 * expected[i]) << c["kind"] << " " << i;
    }
    EXPECT_NEAR(result.attention_factor, c["result_attention_factor"].get<double>(), 1e-12);
    kinds.insert(c["kind"]);
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"linear", "llama3", "yarn", "longrope"}));
}

TEST(RopeFrequencies, WithoutScalingThePairsAreAGeometricSeries) {
  const RopeFrequencies plain = rope_frequencies(6, 1000.0);
  ASSERT_EQ(plain.inverse.size(), 3u);
  EXPECT_DOUBLE_EQ(plain.inverse[0], 1.0);
  EXPECT_DOUBLE_EQ(plain.inverse[1], 0.1);
  EXPECT_DOUBLE_EQ(plain.inverse[2], 0.01);
  EXPECT_EQ(yarn_rope_frequencies(6, 1000.0, {.factor = 1, .original_context = 64}).attention_factor, 1.0);
}

}  // namespace
}  // namespace crible
