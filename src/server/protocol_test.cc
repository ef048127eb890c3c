// HTTP itself: what is refused and how, keep-alive, pipelining, limits and time-outs.
#include <gtest/gtest.h>

#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;

const std::string kSmall = R"({"prompt":[5],"max_tokens":2})";

TEST(Protocol, EveryRefusalHasItsStatusAndAMessage) {
  TestServer server;
  struct Case {
    const char* request;
    int status;
    const char* message;
  };
  const Case cases[] = {
      {"GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n", 404, "/v1/completions"},
      {"GET /v1/completions HTTP/1.1\r\nHost: t\r\n\r\n", 405, "use POST"},
      {"DELETE /v1/models HTTP/1.1\r\nHost: t\r\n\r\n", 405, "use GET"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415, "application/json"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n{", 400, "not valid JSON"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n", 400, "not valid JSON"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n", 413, "max-request-bytes"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n", 400, "HTTP"},
      {"POST /v1/completions HTTP/1.1\r\nHost: t\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n{}", 417, "100-continue"},
      {"complete nonsense\r\n\r\n", 400, "HTTP"},
      {"GET / HTTP/3.7\r\n\r\n", 400, "HTTP"},
  };
  for (const Case& c : cases) {
    TestClient client(server.port());
    client.send(c.request);
    const Response response = client.read_response();
    EXPECT_EQ(response.status, c.status) << c.request;
    EXPECT_NE(response.error_message().find(c.message), std::string::npos) << c.request << response.body;
  }
  EXPECT_EQ(TestClient(server.port()).post("/v1/completions", json::parse(kSmall)).status, 200);
}

TEST(Protocol, LargeHeadersAndBodiesAreRefusedWithinBounds) {
  TestServerOptions options;
  options.config.max_request_bytes = 10'000;
  TestServer server(std::move(options));
  TestClient header(server.port());
  header.send("GET /health HTTP/1.1\r\nHost: t\r\nX-Long: " + std::string(100'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(header.read_response().status, 431);
  // The client sends all of it before it reads: the answer must not be lost to a reset.
  TestClient body(server.port());
  body.send_request("POST", "/v1/completions", std::string(1'000'000, ' '));
  EXPECT_EQ(body.read_response().status, 413);
  TestClient chunked(server.port());
  std::string request = "POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 40; ++i) request += "3e8\r\n" + std::string(1000, ' ') + "\r\n";
  chunked.send(request + "0\r\n\r\n");
  EXPECT_EQ(chunked.read_response().status, 413);
}

TEST(Protocol, HeadAndOptions) {
  TestServer server;
  TestClient client(server.port());
  const Response head = client.request("HEAD", "/health");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
  EXPECT_NE(head.headers.at("content-length"), "0");
  const Response options = client.request("OPTIONS", "/v1/chat/completions");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "POST, OPTIONS");
  // The same connection still works.
  EXPECT_EQ(client.request("GET", "/v1/models?page=1").json()["data"][0]["id"], "fake");
  EXPECT_EQ(client.request("GET", "http://test/v1/models").status, 200);
  EXPECT_EQ(client.request("GET", "/v1/models/fake").json()["id"], "fake");
  EXPECT_EQ(client.request("GET", "/v1/models/other").status, 404);
}

TEST(Protocol, BodiesArriveWholeInPiecesInChunksAndOnInvitation) {
  TestServer server;
  TestClient pieces(server.port());
  const std::string request = fmt::format("POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{}",
                                          kSmall.size(), kSmall);
  for (const char c : request) pieces.send(std::string(1, c));
  EXPECT_EQ(pieces.read_response().status, 200);
  pieces.send(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                          kSmall.size(), kSmall));
  EXPECT_EQ(pieces.read_response().status, 200);
  TestClient polite(server.port());
  polite.send(fmt::format("POST /v1/completions HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                          kSmall.size()));
  EXPECT_TRUE(polite.read_some().starts_with("HTTP/1.1 100 Continue\r\n\r\n"));
  polite.send(kSmall);
  EXPECT_EQ(polite.read_response().status, 200);
}

TEST(Protocol, PipelinedRequestsAreAnsweredInOrder) {
  FakeEngineOptions engine;
  engine.per_step = std::chrono::milliseconds(2);
  TestServer server({.engine = engine});
  TestClient client(server.port());
  for (int i = 1; i <= 5; ++i) {
    client.send_request("POST", "/v1/completions", json{{"prompt", {9}}, {"max_tokens", i}, {"ignore_eos", true}}.dump());
  }
  for (int i = 1; i <= 5; ++i) EXPECT_EQ(client.read_response().json()["usage"]["completion_tokens"], i);
}

TEST(Protocol, AClientOfHttp10GetsAStreamThatEndsWithTheConnection) {
  TestServer server;
  TestClient client(server.port());
  const std::string body = R"({"prompt":[5],"max_tokens":3,"stream":true,"ignore_eos":true})";
  client.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.headers.contains("transfer-encoding"));
  EXPECT_EQ(events_of(response.body).back(), "[DONE]");
}

TEST(Protocol, SilentClientsAreLetGo) {
  TestServerOptions options;
  options.limits.idle = std::chrono::milliseconds(80);
  options.limits.header = std::chrono::milliseconds(80);
  options.limits.body = std::chrono::milliseconds(80);
  TestServer server(std::move(options));
  for (const char* begun : {"", "GET /hea", "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 50\r\n\r\n{"}) {
    TestClient client(server.port());
    client.send(begun);
    EXPECT_EQ(client.read_some(), "") << "the server closes";
  }
}

TEST(Protocol, ConnectionsAboveTheLimitWaitAndAreServed) {
  TestServerOptions options;
  options.limits.connections = 2;
  TestServer server(std::move(options));
  auto first = std::make_unique<TestClient>(server.port());
  TestClient second(server.port()), third(server.port());
  EXPECT_EQ(first->request("GET", "/health").status, 200);
  third.send_request("GET", "/health");
  first.reset();
  EXPECT_EQ(third.read_response().status, 200);
}

TEST(Protocol, TheKeyGuardsEveryRouteButHealth) {
  TestServerOptions options;
  options.config.api_key = "s3cret";
  TestServer server(std::move(options));
  TestClient client(server.port());
  EXPECT_EQ(client.request("GET", "/health").status, 200);
  for (const char* path : {"/metrics", "/v1/models", "/v1/models/fake", "/admin/config", "/nothing"}) {
    EXPECT_EQ(client.request("GET", path).status, 401) << path;
  }
  for (const char* path : {"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/admin/reconfigure",
                           "/admin/reset_prefix_cache"}) {
    TestClient poster(server.port());
    EXPECT_EQ(poster.request("POST", path, kSmall).status, 401) << path;
  }
  for (const char* wrong : {"Bearer s3cre", "Bearer s3crets3cret", "Bearer ", "Bearer", "Basic s3cret", "s3cret", ""}) {
    EXPECT_EQ(client.request("GET", "/v1/models", {}, fmt::format("Authorization: {}\r\n", wrong)).status, 401) << wrong;
  }
  EXPECT_EQ(client.request("GET", "/v1/models", {}, "Authorization: Bearer s3cret\r\n").status, 200);
  EXPECT_EQ(client.request("POST", "/v1/completions", kSmall, "authorization: bearer s3cret\r\n").status, 200);
  EXPECT_EQ(client.request("GET", "/admin/config", {}, "Authorization: Bearer s3cret\r\n").body.find("s3cret"),
            std::string::npos);
}

TEST(Protocol, ABusyPortIsNamed) {
  TestServer server;
  ServerConfig config;
  config.port = server.port();
  const auto second = HttpServer::bind(config, http_limits(config));
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find(std::to_string(server.port())), std::string::npos);
}

TEST(Protocol, LongBodiesArePreparedBesideTheStreams) {
  TestServer server;
  TestClient client(server.port());
  std::string text;
  for (int i = 0; i < 6000; ++i) text += "word ";
  const Response counted = client.post("/tokenize", {{"prompt", text}});
  EXPECT_EQ(counted.json()["count"], 6000 + 1) << counted.body;
  EXPECT_EQ(client.post("/v1/completions", {{"prompt", text}, {"max_tokens", 1}}).json()["usage"]["prompt_tokens"], 6001);
  const Response too_long = client.post("/v1/completions", {{"prompt", text + text}});
  EXPECT_EQ(too_long.status, 400);
  EXPECT_NE(too_long.error_message().find("12001 tokens"), std::string::npos) << too_long.body;
  EXPECT_NE(too_long.error_message().find("8192"), std::string::npos);
}

}  // namespace
}  // namespace crible
