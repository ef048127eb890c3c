// Running the server: metrics, live reconfiguration, drain.
#include <gtest/gtest.h>

#include <regex>

#include "base/process.h"
#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;

TEST(Operation, MetricsFollowTheExpositionFormatAndCount) {
  TestServer server;
  TestClient client(server.port());
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(client.post("/v1/completions", {{"prompt", {4, 5, 6}}, {"max_tokens", 5}, {"ignore_eos", true}}).status, 200);
  }
  const Response response = client.request("GET", "/metrics");
  EXPECT_EQ(response.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const std::regex sample(R"re(([a-z_]+:[a-z0-9_]+)\{([a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*)?\} [-+0-9.e]+)re");
  const std::regex type(R"(# TYPE ([a-z_]+:[a-z0-9_]+) (gauge|counter|histogram))");
  std::set<std::string> families;
  std::istringstream lines(response.body);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.starts_with("# HELP ")) continue;
    if (line.starts_with("#")) {
      ASSERT_TRUE(std::regex_match(line, match, type)) << line;
      EXPECT_TRUE(families.insert(match[1]).second) << "declared once: " << line;
      continue;
    }
    ASSERT_TRUE(std::regex_match(line, match, sample)) << line;
    const std::string family = std::regex_replace(match[1].str(), std::regex("_(bucket|sum|count)$"), "");
    EXPECT_TRUE(families.contains(match[1]) || families.contains(family)) << "declared before: " << line;
  }
  EXPECT_EQ(metric(server.port(), "vllm:request_success_total", "finished_reason=\"length\""), 3);
  EXPECT_EQ(metric(server.port(), "vllm:generation_tokens_total"), 15);
  EXPECT_EQ(metric(server.port(), "vllm:prompt_tokens_total"), 9);
  EXPECT_EQ(metric(server.port(), "vllm:time_to_first_token_seconds_count"), 3);
  EXPECT_EQ(metric(server.port(), "vllm:inter_token_latency_seconds_count"), 12);
  EXPECT_EQ(metric(server.port(), "vllm:time_to_first_token_seconds_bucket", "le=\"+Inf\""), 3);
  EXPECT_EQ(metric(server.port(), "vllm:iteration_tokens_total_sum"), 9 + 15);
  EXPECT_EQ(metric(server.port(), "vllm:iteration_tokens_total_bucket", "le=\"16384\""), 15);
  EXPECT_EQ(metric(server.port(), "vllm:cache_config_info", "enable_prefix_caching=\"True\""), 1);
  EXPECT_GT(metric(server.port(), "crible:process_resident_bytes"), 1e6);
  EXPECT_GT(metric(server.port(), "crible:memory_plan_bytes", "term=\"kv_cache\""), 0);
}

TEST(Operation, AHistogramCountsAtItsBounds) {
  constexpr double kBounds[] = {1, 2, 4};
  Histogram histogram(kBounds);
  for (const double value : {0.5, 1.0, 1.5, 4.0, 5.0}) histogram.observe(value);
  EXPECT_EQ(histogram.cumulative(), (std::vector<int64_t>{2, 3, 4, 5}));
  EXPECT_DOUBLE_EQ(histogram.sum(), 12);
}

TEST(Operation, ReconfigurationIsAllOrNothing) {
  TestServer server;
  TestClient client(server.port());
  const json before = client.request("GET", "/admin/config").json();
  for (const char* part : {"requested", "resolved", "effective", "adjustments", "memory_plan", "model", "machine"}) {
    EXPECT_TRUE(before.contains(part)) << part;
  }
  const auto refused = [&](const json& knobs, const std::string& fragment) {
    const Response response = client.post("/admin/reconfigure", knobs);
    EXPECT_EQ(response.status, 400) << knobs;
    EXPECT_NE(response.error_message().find(fragment), std::string::npos) << response.body;
    EXPECT_EQ(client.request("GET", "/admin/config").json()["effective"], before["effective"]);
  };
  refused({{"max-num-seqs", 8}, {"max-num-sekvs", 4}}, "did you mean 'max-num-seqs'");
  refused({{"max-num-seqs", -1}}, "max-num-seqs");
  refused({{"max-num-seqs", 8}, {"threads", 7}}, "restart");
  refused({{"kv-cache-memory-bytes", 1LL << 42}}, "kv");
  refused(json::array({1}), "object");
  const Response changed = client.post("/admin/reconfigure", {{"max-num-seqs", 8}, {"enable-prefix-caching", false}});
  ASSERT_EQ(changed.status, 200) << changed.body;
  EXPECT_EQ(changed.json()["effective"]["max-num-seqs"], 8);
  const json after = client.request("GET", "/admin/config").json();
  EXPECT_EQ(after["requested"]["enable-prefix-caching"], false);
  EXPECT_EQ(after["effective"], changed.json()["effective"]);
  EXPECT_EQ(metric(server.port(), "vllm:cache_config_info", "enable_prefix_caching=\"False\""), 1);
}

TEST(Operation, TheDrainLetsRunningRequestsFinish) {
  FakeEngineOptions engine;
  engine.per_step = std::chrono::milliseconds(5);
  TestServer server({.engine = engine});
  TestClient running(server.port()), next(server.port());
  running.send_request("POST", "/v1/completions", R"({"prompt":[5],"max_tokens":60,"stream":true,"ignore_eos":true})");
  ASSERT_NE(running.read_some(), "");
  server.server->begin_drain();
  ASSERT_TRUE(eventually([&] { return next.request("GET", "/health").status != 200; }));
  const Response refused = TestClient(server.port()).post("/v1/completions", {{"prompt", {5}}});
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  std::string rest;
  for (std::string more; !(more = running.read_some()).empty();) rest += more;
  EXPECT_NE(rest.find("[DONE]"), std::string::npos);
  server.server->wait();
}

TEST(Operation, TheDrainEndsAtItsTimeOut) {
  TestServerOptions options;
  options.engine.per_step = std::chrono::milliseconds(5);
  options.config.drain_timeout_seconds = 0.1;
  TestServer server(std::move(options));
  TestClient streaming(server.port()), waiting(server.port());
  streaming.send_request("POST", "/v1/completions", R"({"prompt":[5],"max_tokens":8000,"stream":true,"ignore_eos":true})");
  waiting.send_request("POST", "/v1/completions", R"({"prompt":[6],"max_tokens":8000,"ignore_eos":true})");
  ASSERT_NE(streaming.read_some(), "");
  ASSERT_TRUE(eventually([&] { return server.engine->stats().running == 2; }));
  server.server->begin_drain();
  server.server->wait();
  EXPECT_EQ(waiting.read_response().status, 503);
  std::string rest;
  for (std::string more; !(more = streaming.read_some()).empty();) rest += more;
  EXPECT_NE(rest.find("shutting down"), std::string::npos);
  EXPECT_EQ(rest.find("[DONE]"), std::string::npos);
}

// Processor time of this process alone: what else the machine does is not in it.
TEST(Operation, WaitingForATokenCostsNothing) {
  FakeEngineOptions engine;
  engine.per_step = std::chrono::milliseconds(300);
  TestServer server({.engine = engine});
  TestClient client(server.port());
  for (const bool stream : {true, false}) {
    const double before = process_usage(0)->cpu_seconds;
    client.post("/v1/completions", {{"prompt", {5}}, {"max_tokens", 2}, {"stream", stream}, {"ignore_eos", true}});
    EXPECT_LT(process_usage(0)->cpu_seconds - before, 0.06) << "of 0.6 s of waiting";
  }
}

TEST(Operation, TokenizeAndDetokenizeAreInverse) {
  TestServer server;
  TestClient client(server.port());
  const std::string text = "Ünïcode 🙂 <|im_end|> and\n spaces   ";
  const json tokens = client.post("/tokenize", {{"prompt", text}, {"return_token_strs", true}}).json();
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(tokens["token_strs"].size(), tokens["tokens"].size());
  EXPECT_EQ(tokens["max_model_len"], 8192);
  EXPECT_EQ(client.post("/detokenize", {{"tokens", tokens["tokens"]}}).json()["prompt"], text);
  EXPECT_EQ(client.post("/detokenize", {{"tokens", {99'999'999}}}).status, 400);
  const json chat = client.post("/tokenize", {{"messages", json::array({{{"role", "user"}, {"content", "Hi"}}})}}).json();
  const std::string rendered = client.post("/detokenize", {{"tokens", chat["tokens"]}}).json()["prompt"];
  EXPECT_NE(rendered.find("<|im_start|>user\nHi<|im_end|>"), std::string::npos) << rendered;
}

}  // namespace
}  // namespace crible
