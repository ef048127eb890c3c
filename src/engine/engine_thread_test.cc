#include "engine/engine_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "base/process.h"
#include "engine/collected_output.h"
#include "engine/hash_model.h"

namespace crible {
namespace {

EngineConfig small_config() {
  EngineConfig config;
  config.device_memory_bytes = 64 * kMiB;
  config.threads = 1;
  config.max_num_seqs = 4;
  config.max_num_batched_tokens = 32;
  config.kv_cache_memory_bytes = 20 * kHashBlockBytes;
  return config;
}

std::unique_ptr<EngineService> start(const EngineConfig& config = small_config()) {
  auto engine = Engine::create(std::make_unique<HashModel>(), std::move(*Stream::create_cpu(1)), config);
  EXPECT_TRUE(engine) << engine.error().message;
  return start_engine_thread(std::move(*engine));
}

EngineRequest request_of(std::vector<TokenId> prompt, int64_t max_tokens, CollectedOutput& output) {
  return {.prompt = std::move(prompt), .sampling = {.temperature = 0, .max_tokens = max_tokens},
          .on_output = output.sink()};
}

std::vector<TokenId> greedy(std::vector<TokenId> tokens, int64_t count) {
  std::vector<TokenId> output;
  while (static_cast<int64_t>(output.size()) < count) {
    const std::vector<float> logits = hash_logits(tokens);
    output.push_back(static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    tokens.push_back(output.back());
  }
  return output;
}

TEST(EngineThread, ServesManyThreadsThroughReconfigurations) {
  auto engine = start();
  std::atomic<bool> done{false};
  std::thread reconfigurer([&] {
    EngineConfig config = small_config();
    for (int i = 0; !done; ++i) {
      config.max_num_seqs = 1 + i % 6;
      config.enable_prefix_caching = i % 3 != 0;
      EXPECT_TRUE(engine->reconfigure(config));
      EXPECT_EQ(engine->describe().resolved.config.max_num_seqs, config.max_num_seqs);
      engine->stats();
    }
  });
  std::vector<std::thread> clients;
  for (unsigned c = 0; c < 4; ++c) {
    clients.emplace_back([&engine, c] {
      std::mt19937 random(c);
      for (int i = 0; i < 30; ++i) {
        std::vector<TokenId> prompt(1 + random() % 100);
        for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 5);
        const auto count = static_cast<int64_t>(1 + random() % 30);
        CollectedOutput output;
        const auto id = engine->submit(request_of(prompt, count, output));
        ASSERT_TRUE(id) << id.error().message;
        if (random() % 5 == 0) engine->cancel(*id);
        auto expected = greedy(prompt, count);
        const auto tokens = output.tokens();
        if (output.last().finish == FinishReason::kCancelled) expected.resize(tokens.size());
        EXPECT_EQ(tokens, expected);
      }
    });
  }
  for (auto& client : clients) client.join();
  done = true;
  reconfigurer.join();
  engine->stop();
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.finished_length + stats.finished_cancelled, 120);
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_GT(stats.reconfigurations, 0);
}

TEST(EngineThread, StopEndsEverySequenceAndRefusesNewOnes) {
  auto engine = start();
  std::vector<CollectedOutput> outputs(10);
  for (auto& output : outputs) ASSERT_TRUE(engine->submit(request_of({1, 2, 3}, 150, output)));
  engine->stop();
  for (auto& output : outputs) EXPECT_NE(output.last().finish, FinishReason::kNone);
  engine->stop();
  CollectedOutput late;
  EXPECT_EQ(engine->submit(request_of({1}, 1, late)).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(engine->reconfigure(small_config()).error().code, ErrorCode::kUnavailable);
  engine->cancel(SeqId{1});
  engine->reset_prefix_cache();
}

TEST(EngineThread, RefusedReconfigurationLeavesEverythingGoing) {
  auto engine = start();
  CollectedOutput output;
  ASSERT_TRUE(engine->submit(request_of({5, 6, 7}, 100, output)));
  EngineConfig config = small_config();
  config.kv_cache_memory_bytes = kHashBlockBytes;
  EXPECT_EQ(engine->reconfigure(config).error().code, ErrorCode::kResourceExhausted);
  config = small_config();
  config.max_num_batched_tokens = 2;
  EXPECT_EQ(engine->reconfigure(config).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(output.tokens(), greedy({5, 6, 7}, 100));
  EXPECT_TRUE(engine->health());
  EXPECT_EQ(engine->describe().resolved.config.max_num_batched_tokens, 32);
}

TEST(EngineThread, FaultOfOneRequestLeavesTheOthers) {
  auto engine = start();
  CollectedOutput bad, good;
  ASSERT_TRUE(engine->submit(request_of({1, kHashFault}, 10, bad)));
  ASSERT_TRUE(engine->submit(request_of({1, 2}, 10, good)));
  EXPECT_EQ(bad.last().finish, FinishReason::kError);
  EXPECT_THAT(bad.last().error->message, ::testing::HasSubstr("not finite"));
  EXPECT_EQ(good.tokens(), greedy({1, 2}, 10));
  EXPECT_TRUE(engine->health());
}

TEST(EngineThread, RefusesWhatCannotFit) {
  auto engine = start();
  CollectedOutput output;
  EXPECT_EQ(engine->submit(request_of(std::vector<TokenId>(kHashContext, 1), 1, output)).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(engine->submit(request_of({kHashVocabulary}, 1, output)).error().code, ErrorCode::kInvalidArgument);
}

TEST(EngineThread, SleepsWhileIdle) {
  auto engine = start();
  CollectedOutput output;
  ASSERT_TRUE(engine->submit(request_of({1}, 5, output)));
  output.wait();
  const int64_t steps = engine->stats().steps;
  const double before = process_usage(0)->cpu_seconds;
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(process_usage(0)->cpu_seconds - before, 0.1);
  EXPECT_EQ(engine->stats().steps, steps);
}

}  // namespace
}  // namespace crible
