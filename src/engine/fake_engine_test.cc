#include "engine/fake_engine.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/collected_output.h"

namespace crible {
namespace {

EngineRequest request_of(int64_t prompt_tokens, int64_t max_tokens, CollectedOutput& events) {
  EngineRequest request;
  request.prompt.resize(static_cast<size_t>(prompt_tokens));
  std::iota(request.prompt.begin(), request.prompt.end(), 100);
  request.sampling = {.temperature = 0, .max_tokens = max_tokens};
  request.on_output = events.sink();
  return request;
}

std::unique_ptr<EngineService> start(FakeEngineOptions options = {}) {
  auto engine = start_fake_engine(std::move(options));
  EXPECT_TRUE(engine) << engine.error().message;
  return std::move(*engine);
}

TEST(FakeEngine, EndsWithLengthAndRepeatsItself) {
  auto engine = start();
  CollectedOutput first, second;
  ASSERT_TRUE(engine->submit(request_of(20, 7, first)));
  ASSERT_TRUE(engine->submit(request_of(20, 7, second)));
  ASSERT_EQ(first.wait().size(), 7u);
  ASSERT_EQ(second.wait().size(), 7u);
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(first.wait().at(i).token, second.wait().at(i).token);
}

TEST(FakeEngine, CountsCachedPrefixOfSecondRequest) {
  auto engine = start();
  CollectedOutput first, second;
  ASSERT_TRUE(engine->submit(request_of(100, 1, first)));
  EXPECT_EQ(first.wait().back().cached_tokens, 0);
  ASSERT_TRUE(engine->submit(request_of(100, 1, second)));
  EXPECT_EQ(second.wait().back().cached_tokens, 96);
  EXPECT_EQ(engine->stats().prefix_hit_tokens, 96);
}

TEST(FakeEngine, StopTokenCountsAndEnds) {
  FakeEngineOptions options;
  options.next_token = [](const EngineRequest&, int64_t index) { return index == 3 ? 2 : 500; };
  auto engine = start(std::move(options));
  CollectedOutput events;
  EngineRequest request = request_of(5, 100, events);
  request.sampling.stop_token_ids = {2};
  ASSERT_TRUE(engine->submit(std::move(request)));
  const TokenOutput last = events.wait().back();
  EXPECT_EQ(last.finish, FinishReason::kStop);
  EXPECT_EQ(last.token, 2);
  EXPECT_EQ(last.output_tokens, 4);
}

TEST(FakeEngine, ModelFaultEndsOneRequestOnly) {
  FakeEngineOptions options;
  options.next_token = [](const EngineRequest& r, int64_t index) { return r.prompt.size() == 5 && index == 2 ? -1 : 9; };
  auto engine = start(std::move(options));
  CollectedOutput bad, good;
  ASSERT_TRUE(engine->submit(request_of(5, 10, bad)));
  ASSERT_TRUE(engine->submit(request_of(6, 10, good)));
  EXPECT_EQ(bad.wait().back().finish, FinishReason::kError);
  ASSERT_TRUE(bad.wait().back().error);
  EXPECT_EQ(bad.wait().size(), 3u);
  EXPECT_EQ(good.wait().back().finish, FinishReason::kLength);
}

TEST(FakeEngine, CancelAndStopEndEverySequenceOnce) {
  FakeEngineOptions options;
  options.config.max_num_seqs = 2;
  options.per_step = std::chrono::milliseconds(1);
  auto engine = start(std::move(options));
  std::array<CollectedOutput, 5> events;
  std::vector<SeqId> ids;
  for (auto& e : events) ids.push_back(*engine->submit(request_of(5, 8000, e)));
  engine->cancel(ids[3]);
  EXPECT_EQ(events[3].wait().back().finish, FinishReason::kCancelled);
  engine->stop();
  for (auto& e : events) EXPECT_EQ(e.wait().back().finish, FinishReason::kCancelled);
  EXPECT_EQ(engine->stats().finished_cancelled, 5);
  EXPECT_EQ(engine->stats().kv_blocks_used, 0);
  CollectedOutput late;
  EXPECT_EQ(engine->submit(request_of(5, 1, late)).error().code, ErrorCode::kUnavailable);
}

TEST(FakeEngine, ReconfigureKeepsOldConfigurationOnError) {
  auto engine = start();
  EngineConfig config = engine->describe().requested;
  config.max_model_len = 1 << 20;
  EXPECT_FALSE(engine->reconfigure(config));
  config.max_model_len = 1024;
  auto changed = engine->reconfigure(config);
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(changed->resolved.config.max_model_len, 1024);
  config.threads = 17;
  EXPECT_EQ(engine->reconfigure(config).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(engine->stats().reconfigurations, 1);
}

}  // namespace
}  // namespace crible
