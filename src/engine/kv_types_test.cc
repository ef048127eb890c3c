// Every type of KV cache on the default model: greedy tokens do not depend on the schedule, and the first is the one
// that the widest type gives.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "engine/collected_output.h"
#include "engine/engine_service.h"

namespace crible {
namespace {

constexpr int64_t kOutput = 12;
struct Prompt {
  size_t first, length;  // of the prose
};
// Shorter than a block, across several, and two that begin alike.
constexpr Prompt kPrompts[] = {{5, 7}, {0, 75}, {0, 50}, {300, 33}};

EngineConfig config_of(const std::string& type, int64_t max_num_seqs, int64_t max_num_batched_tokens) {
  EngineConfig config;
  config.kv_cache_dtype = type;
  config.max_num_seqs = max_num_seqs;
  config.max_num_batched_tokens = max_num_batched_tokens;
  config.max_model_len = 128;
  config.threads = 2;
  config.kv_cache_memory_bytes = 32 * kMiB;
  return config;
}

// All at once; a second round finds prefixes in the cache.
std::vector<std::vector<TokenId>> answers(EngineService& engine, const std::vector<TokenId>& text) {
  std::vector<CollectedOutput> outputs(std::size(kPrompts));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto begin = text.begin() + static_cast<int64_t>(kPrompts[i].first);
    EXPECT_TRUE(engine.submit({.prompt = {begin, begin + static_cast<int64_t>(kPrompts[i].length)},
                               .sampling = {.temperature = 0.0f, .max_tokens = kOutput, .ignore_eos = true},
                               .on_output = outputs[i].sink()}));
  }
  std::vector<std::vector<TokenId>> tokens;
  for (CollectedOutput& output : outputs) tokens.push_back(output.tokens());
  return tokens;
}

TEST(KvTypes, GreedyTokensDoNotDependOnTheSchedule) {
  std::ifstream file(std::string(CRIBLE_SOURCE_DIR) + "/tests/golden/prose.tokens");
  const std::vector<TokenId> text{std::istream_iterator<TokenId>(file), {}};
  const std::string model = std::string(CRIBLE_SOURCE_DIR) + "/models/default.gguf";
  std::vector<TokenId> widest;
  for (const std::string type : {"f32", "f16", "bf16", "int8"}) {
    SCOPED_TRACE(type);
    auto alone = EngineService::start(model, config_of(type, 1, 128));
    ASSERT_TRUE(alone) << alone.error().message;
    const std::vector<std::vector<TokenId>> expected = answers(**alone, text);
    auto together = EngineService::start(model, config_of(type, 4, 19));
    ASSERT_TRUE(together) << together.error().message;
    EXPECT_EQ(answers(**together, text), expected);
    EXPECT_EQ(answers(**together, text), expected) << "from the prefix cache";
    EXPECT_GT((*together)->stats().prefix_hit_tokens, 0);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(expected[i].size(), static_cast<size_t>(kOutput));
      if (type == "f32") widest.push_back(expected[i][0]);
      EXPECT_EQ(expected[i][0], widest[i]);
    }
  }
}

}  // namespace
}  // namespace crible
