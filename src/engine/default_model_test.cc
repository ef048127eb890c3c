// The default model through the real engine: scheduling changes nothing, and what it says makes sense.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>

#include "engine/collected_output.h"
#include "engine/engine_service.h"

namespace crible {
namespace {

const std::string kModelPath = std::string(CRIBLE_SOURCE_DIR) + "/models/default.gguf";

std::vector<TokenId> prose() {
  std::ifstream file(std::string(CRIBLE_SOURCE_DIR) + "/tests/golden/prose.tokens");
  return {std::istream_iterator<TokenId>(file), {}};
}

EngineConfig config_of(int64_t max_num_seqs, int64_t max_num_batched_tokens, bool chunked, int64_t threads) {
  EngineConfig config;
  config.max_num_seqs = max_num_seqs;
  config.max_num_batched_tokens = max_num_batched_tokens;
  config.enable_chunked_prefill = chunked;
  config.threads = threads;
  config.max_model_len = 160;
  config.kv_cache_memory_bytes = 10 * 360 * kKiB;  // 10 blocks of 16 tokens: pre-empts
  return config;
}

std::unique_ptr<EngineService> start(const EngineConfig& config) {
  auto engine = EngineService::start(kModelPath, config);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

struct Ask {
  int64_t first, length;  // of the prose
  float temperature;
  int64_t output;
};

EngineRequest request_of(const Ask& ask, const std::vector<TokenId>& text, CollectedOutput& output) {
  const auto begin = text.begin() + ask.first;
  return {.prompt = {begin, begin + ask.length},
          .sampling = {.temperature = ask.temperature, .top_p = 0.95f, .seed = 7, .max_tokens = ask.output},
          .on_output = output.sink()};
}

std::vector<Ask> asks() {
  std::mt19937 random(1);
  std::vector<Ask> list;
  // Four that start small and grow until blocks run out, then four with longer prompts, two beginnings shared.
  for (int i = 0; i < 8; ++i) {
    const bool grows = i < 4;
    list.push_back({.first = i % 2 == 0 ? 0 : static_cast<int64_t>(random() % 1000),
                    .length = 2 + static_cast<int64_t>(random() % (grows ? 14 : 90)),
                    .temperature = i % 4 == 3 ? 0.8f : 0.0f, .output = grows ? 36 : 4});
  }
  return list;
}

class DefaultModelTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    text() = prose();
    // Each request alone, its prompt in one step, nothing cached.
    EngineConfig config = config_of(1, 160, false, 1);
    config.enable_prefix_caching = false;
    const auto engine = start(config);
    for (const Ask& ask : asks()) {
      CollectedOutput output;
      ASSERT_TRUE(engine->submit(request_of(ask, text(), output)));
      alone().push_back(output.tokens());
    }
  }
  static std::vector<TokenId>& text() {
    static std::vector<TokenId> tokens;
    return tokens;
  }
  static std::vector<std::vector<TokenId>>& alone() {
    static std::vector<std::vector<TokenId>> tokens;
    return tokens;
  }

  static void expect_same_tokens(EngineService& engine, bool reconfigure) {
    const std::vector<Ask> list = asks();
    std::vector<CollectedOutput> outputs(list.size());
    for (size_t i = 0; i < list.size(); ++i) ASSERT_TRUE(engine.submit(request_of(list[i], text(), outputs[i])));
    for (int i = 0; reconfigure && i < 3; ++i) {
      EngineConfig config = engine.describe().requested;
      config.max_num_seqs = 3 + i;
      config.enable_chunked_prefill = i != 1;
      config.max_num_batched_tokens = i == 1 ? 160 : 40 + i;
      const auto changed = engine.reconfigure(config);
      ASSERT_TRUE(changed) << changed.error().message;
    }
    for (size_t i = 0; i < list.size(); ++i) EXPECT_EQ(outputs[i].tokens(), alone()[i]) << "request " << i;
  }

  // The longest prompt twice, the second time from the cache.
  static void expect_hit_with_same_tokens(EngineService& engine) {
    const std::vector<Ask> list = asks();
    const auto longest = std::max_element(list.begin(), list.end(),
                                          [](const Ask& a, const Ask& b) { return a.length < b.length; });
    for (const bool warm : {false, true}) {
      CollectedOutput output;
      ASSERT_TRUE(engine.submit(request_of(*longest, text(), output)));
      EXPECT_EQ(output.tokens(), alone()[static_cast<size_t>(longest - list.begin())]);
      if (warm) {
        EXPECT_EQ(output.last().cached_tokens, (longest->length - 1) / 16 * 16);
      }
    }
  }
};

TEST_F(DefaultModelTest, SameTokensInEveryScheduleColdAndWarm) {
  const EngineConfig configs[] = {config_of(8, 33, true, 2), config_of(4, 7, true, 1), config_of(6, 160, false, 2)};
  int64_t preemptions = 0;
  for (const EngineConfig& config : configs) {
    SCOPED_TRACE(testing::Message() << config.max_num_seqs << " sequences, " << config.max_num_batched_tokens
                                    << " tokens, " << config.threads << " threads");
    const auto engine = start(config);
    expect_same_tokens(*engine, false);
    expect_hit_with_same_tokens(*engine);
    EXPECT_EQ(engine->stats().kv_blocks_used, 0);
    preemptions += engine->stats().preemptions;
  }
  EXPECT_GT(preemptions, 0);
}

TEST_F(DefaultModelTest, SameTokensThroughReconfiguration) {
  const auto engine = start(config_of(8, 64, true, 2));
  expect_same_tokens(*engine, true);
  EXPECT_EQ(engine->stats().reconfigurations, 3);
  EXPECT_LT(engine->stats().last_reconfigure_seconds, 2);
}

TEST_F(DefaultModelTest, KnowsACapital) {
  const auto engine = start(config_of(1, 64, true, 2));
  CollectedOutput output;
  // "The capital of France is" -> " Paris"
  ASSERT_TRUE(engine->submit({.prompt = {504, 3575, 282, 4649, 314}, .sampling = {.temperature = 0, .max_tokens = 1},
                              .on_output = output.sink()}));
  EXPECT_EQ(output.tokens(), (std::vector<TokenId>{7042}));
  const EngineDescription description = engine->describe();
  EXPECT_EQ(description.model.architecture, "llama");
  EXPECT_EQ(description.model.quantization, "Q4_1");
  EXPECT_EQ(description.model.parameters, 134'515'008);
  EXPECT_EQ(description.plan.num_blocks, 10);
}

}  // namespace
}  // namespace crible
