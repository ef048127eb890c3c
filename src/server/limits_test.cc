// What protects the server from too much: queue, time, slow readers, connections.
#include <gtest/gtest.h>

#include <set>

#include "server/completion_rate.h"
#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

TestServerOptions slow_engine(milliseconds per_step, int64_t max_num_seqs = 4) {
  TestServerOptions options;
  options.engine.per_step = per_step;
  options.engine.config.max_num_seqs = max_num_seqs;
  return options;
}

const std::string kEndless = R"({"prompt":[5],"max_tokens":8000,"ignore_eos":true})";

TEST(Limits, AFullQueueIsRefusedWithATimeToComeBack) {
  TestServerOptions options = slow_engine(milliseconds(4), 1);
  options.config.max_waiting_requests = 2;
  TestServer server(std::move(options));
  std::vector<std::unique_ptr<TestClient>> clients;
  const auto send = [&] {
    clients.push_back(std::make_unique<TestClient>(server.port()));
    clients.back()->send_request("POST", "/v1/completions", kEndless);
  };
  send();
  ASSERT_TRUE(eventually([&] { return server.engine->stats().running == 1; }));
  send();
  send();
  ASSERT_TRUE(eventually([&] { return server.engine->stats().waiting == 2; }));
  TestClient refused(server.port());
  const Response response = refused.post("/v1/completions", {{"prompt", {5}}});
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(response.json()["error"]["code"], "queue_full");
  const int seconds = std::stoi(response.headers.at("retry-after"));
  EXPECT_GE(seconds, 1);
  EXPECT_LE(seconds, 600);
  for (auto& client : clients) client->close();
  ASSERT_TRUE(eventually([&] { return server.engine->stats().waiting == 0; }));
  EXPECT_EQ(refused.post("/v1/completions", {{"prompt", {5}}}).status, 200) << "the connection goes on";
  EXPECT_EQ(metric(server.port(), "crible:queue_refusals_total"), 1);
}

TEST(Limits, TheTimeToComeBackFollowsFromTheThroughput) {
  CompletionRate rate;
  const TimePoint start = now();
  EXPECT_FALSE(rate.seconds_for(1, start));
  for (int i = 0; i <= 200; ++i) rate.note(start + i * milliseconds(500));
  const TimePoint last = start + 200 * milliseconds(500);
  EXPECT_DOUBLE_EQ(*rate.seconds_for(1, last), 0.5);
  EXPECT_DOUBLE_EQ(*rate.seconds_for(10, last), 5);
  EXPECT_GT(*rate.seconds_for(1, last + std::chrono::seconds(100)), 2) << "nothing has ended for long";
}

TEST(Limits, ARequestEndsAtItsTimeOutWherverItIs) {
  TestServer server(slow_engine(milliseconds(5), 1));
  // Running and streaming, running whole, waiting for a place.
  TestClient streaming(server.port());
  streaming.send_request("POST", "/v1/completions",
                         R"({"prompt":[5],"max_tokens":8000,"ignore_eos":true,"stream":true,"timeout":0.3})");
  ASSERT_NE(streaming.read_some(), "");
  TestClient waiting(server.port());
  const Response late = waiting.request("POST", "/v1/completions", R"({"prompt":[6],"timeout":0.05})");
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(late.json()["error"]["code"], "deadline_exceeded");
  std::string rest;
  while (rest.find("deadline_exceeded") == std::string::npos) {
    const std::string more = streaming.read_some();
    ASSERT_FALSE(more.empty()) << rest;
    rest += more;
  }
  EXPECT_EQ(rest.find("[DONE]"), std::string::npos);
  TestClient whole(server.port());
  EXPECT_EQ(whole.request("POST", "/v1/completions", R"({"prompt":[5],"max_tokens":8000,"ignore_eos":true,"timeout":0.1})").status, 504);
  ASSERT_TRUE(eventually([&] { return server.engine->stats().kv_blocks_used == 0; }));
  EXPECT_EQ(server.engine->stats().finished_cancelled, 3);
  EXPECT_EQ(whole.post("/v1/completions", {{"prompt", {5}}, {"timeout", 60}}).status, 200);
}

TEST(Limits, TheServersOwnTimeOutBoundsTheRequests) {
  TestServerOptions options = slow_engine(milliseconds(5));
  options.config.request_timeout_seconds = 0.1;
  TestServer server(std::move(options));
  TestClient client(server.port());
  EXPECT_EQ(client.request("POST", "/v1/completions", kEndless).status, 504);
  EXPECT_EQ(client.request("POST", "/v1/completions", R"({"prompt":[5],"max_tokens":8000,"ignore_eos":true,"timeout":100})").status, 504);
  EXPECT_EQ(client.request("POST", "/v1/completions", R"({"prompt":[5],"timeout":-1})").status, 400);
}

TEST(Limits, AReaderThatDoesNotReadIsCutOffAndBlocksNobody) {
  TestServerOptions options;
  options.limits.unread_bytes = 64 << 10;
  options.engine.config.gpu_memory_utilization = 0.9;
  TestServer server(std::move(options));
  TestClient deaf(server.port());
  json body = {{"prompt", json::array()}, {"max_tokens", 8000}, {"ignore_eos", true}, {"stream", true}};
  for (int i = 0; i < 16; ++i) body["prompt"].push_back({5, i});
  deaf.send_request("POST", "/v1/completions", body.dump());
  TestClient other(server.port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(other.post("/v1/completions", {{"prompt", {7}}}).status, 200);
  ASSERT_TRUE(eventually([&] { return metric(server.port(), "crible:slow_readers_total") == 1; }));
  ASSERT_TRUE(eventually([&] { return server.engine->stats().kv_blocks_used == 0; }));
  EXPECT_EQ(metric(server.port(), "crible:live_completions"), 0);
}

TEST(Limits, ConnectionsBeyondTheMostWaitForAPlace) {
  TestServerOptions options;
  options.limits.connections = 2;
  TestServer server(std::move(options));
  auto first = std::make_unique<TestClient>(server.port());
  TestClient second(server.port());
  EXPECT_EQ(first->request("GET", "/health").status, 200);
  EXPECT_EQ(second.request("GET", "/health").status, 200);
  TestClient third(server.port());
  third.send_request("GET", "/health");
  EXPECT_FALSE(third.readable_within(200));
  first->close();
  EXPECT_EQ(third.read_response().status, 200);
}

TEST(Limits, TheSettingsBecomeTheLimits) {
  ServerConfig config;
  config.max_connections = 7;
  config.keep_alive_timeout_seconds = 1.5;
  config.header_timeout_seconds = 2;
  config.body_timeout_seconds = 3;
  config.write_timeout_seconds = 4;
  config.max_unread_bytes = 5000;
  const HttpLimits limits = http_limits(config);
  EXPECT_EQ(limits.connections, 7);
  EXPECT_EQ(limits.idle, milliseconds(1500));
  EXPECT_EQ(limits.header, milliseconds(2000));
  EXPECT_EQ(limits.body, milliseconds(3000));
  EXPECT_EQ(limits.write, milliseconds(4000));
  EXPECT_EQ(limits.unread_bytes, 5000u);
}

}  // namespace
}  // namespace crible
