// A client may go away at every stage of its request: its blocks are free right after, and the others
// notice nothing. The real engine, over a model that takes its time.
#include <gtest/gtest.h>

#include <thread>

#include "engine/engine_thread.h"
#include "engine/hash_model.h"
#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;

// Steps long enough to meet a request in any stage.
class SlowModel final : public Model {
 public:
  const ModelInfo& info() const override { return model_.info(); }
  KvShape kv_shape() const override { return model_.kv_shape(); }
  int64_t weight_bytes() const override { return model_.weight_bytes(); }
  int64_t arena_bytes(const StepLimits& limits) const override { return model_.arena_bytes(limits); }
  int64_t scratch_bytes(const StepLimits& limits, int threads) const override {
    return model_.scratch_bytes(limits, threads);
  }
  void forward(Stream& stream, const BatchView& batch, const ForwardBuffers& buffers) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    model_.forward(stream, batch, buffers);
  }

 private:
  HashModel model_;
};

EngineConfig small_config() {
  EngineConfig config;
  config.device_memory_bytes = 64 * kMiB;
  config.threads = 1;
  config.max_num_seqs = 2;
  config.max_num_batched_tokens = 4;
  config.kv_cache_memory_bytes = 40 * kHashBlockBytes;
  return config;
}

std::unique_ptr<EngineService> slow_engine() {
  auto engine = Engine::create(std::make_unique<SlowModel>(), std::move(*Stream::create_cpu(1)), small_config());
  EXPECT_TRUE(engine) << engine.error().message;
  return start_engine_thread(std::move(*engine));
}

class Cancellation : public ::testing::Test {
 protected:
  Cancellation() : server_({}, slow_engine()) {}

  std::unique_ptr<TestClient> ask(int prompt_tokens, int max_tokens, bool stream = false, int first = 3) {
    json body = {{"prompt", json::array()}, {"max_tokens", max_tokens}, {"ignore_eos", true}, {"stream", stream},
                 {"temperature", 0}};
    for (int i = 0; i < prompt_tokens; ++i) body["prompt"].push_back((first + i) % 90 + 3);
    auto client = std::make_unique<TestClient>(server_.port());
    client->send_request("POST", "/v1/completions", body.dump());
    return client;
  }
  EngineStats stats() const { return server_.engine->stats(); }
  // Nothing of the request is left.
  void expect_gone(int64_t cancelled) {
    EXPECT_TRUE(eventually([&] { return stats().running + stats().waiting == 0 && stats().kv_blocks_used == 0; }));
    EXPECT_EQ(stats().finished_cancelled, cancelled);
    EXPECT_TRUE(eventually([&] { return metric(server_.port(), "crible:live_completions") == 0; }));
  }

  TestServer server_;
};

TEST_F(Cancellation, WhileItWaits) {
  const auto running = ask(3, 140), also_running = ask(4, 140);
  ASSERT_TRUE(eventually([&] { return stats().running == 2; }));
  const auto waiting = ask(5, 140);
  ASSERT_TRUE(eventually([&] { return stats().waiting == 1; }));
  waiting->close();
  EXPECT_TRUE(eventually([&] { return stats().waiting == 0; }));
  EXPECT_EQ(stats().running, 2);
  running->close();
  also_running->close();
  expect_gone(3);
}

TEST_F(Cancellation, BetweenTwoChunksOfItsPrompt) {
  const auto client = ask(150, 5);
  ASSERT_TRUE(eventually([&] { return stats().computed_prompt_tokens > 16; }));
  EXPECT_GT(stats().kv_blocks_used, 0);
  client->close();
  expect_gone(1);
  EXPECT_LT(stats().computed_prompt_tokens, 150);
}

TEST_F(Cancellation, WhileItDecodesAndOthersGoOn) {
  const auto reference = ask(6, 60);
  const std::string text = reference->read_response().json()["choices"][0]["text"];
  const auto other = ask(6, 60);
  const auto client = ask(9, 140, /*stream=*/true);
  ASSERT_NE(client->read_some(), "");
  client->reset();
  EXPECT_EQ(other->read_response().json()["choices"][0]["text"], text);
  expect_gone(1);
}

TEST_F(Cancellation, DuringAReconfiguration) {
  const auto client = ask(40, 100, /*stream=*/true), waiting = ask(5, 100), third = ask(7, 100);
  ASSERT_NE(client->read_some(), "");
  std::thread change([&] {
    for (int i = 0; i < 4; ++i) {
      EngineConfig config = small_config();
      config.max_num_seqs = 1 + i % 2;
      config.enable_prefix_caching = i % 2 == 0;
      EXPECT_TRUE(server_.engine->reconfigure(config));
    }
  });
  client->close();
  waiting->close();
  third->close();
  change.join();
  expect_gone(3);
}

TEST_F(Cancellation, AfterTheLastTokenIsNoCancellation) {
  const auto client = ask(5, 3);
  ASSERT_TRUE(eventually([&] { return stats().finished_length == 1; }));
  client->close();
  expect_gone(0);
}

TEST_F(Cancellation, ForkedAnswersGoTogether) {
  TestClient client(server_.port());
  json body = {{"prompt", json::array()}, {"max_tokens", 100}, {"ignore_eos", true}, {"n", 3}};
  for (int i = 0; i < 40; ++i) body["prompt"].push_back(i + 3);
  client.send_request("POST", "/v1/completions", body.dump());
  ASSERT_TRUE(eventually([&] { return stats().generation_tokens > 4; }));
  client.close();
  expect_gone(3);
}

}  // namespace
}  // namespace crible
