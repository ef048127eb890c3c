#include "load/client.h"

#include <gtest/gtest.h>

#include <latch>
#include <map>
#include <thread>

#include "load/arrival.h"
#include "load/scripted_server.h"

namespace crible::load {
namespace {

std::unique_ptr<ScriptedServer> serve(ScriptedServer::Handler handler) {
  auto server = ScriptedServer::start(std::move(handler));
  EXPECT_TRUE(server) << server.error().message;
  return std::move(*server);
}

Request request(Clock::duration timeout = std::chrono::minutes(10)) {
  return {.path = "/v1/chat/completions",
          .body = "{}",
          .expected_tokens = 8,
          .keep_text = true,
          .timeout = timeout};
}

Exchange exchange_with(const Endpoint& endpoint, Request r = request()) {
  auto client = Client::create(endpoint).value();
  std::optional<Exchange> result;
  client->submit(std::move(r), now(), [&](Exchange&& e) {
    EXPECT_FALSE(result) << "called twice";
    result = std::move(e);
  });
  const std::atomic<bool> stop{false};
  client->run(stop);
  EXPECT_TRUE(result);
  return std::move(*result);
}

TEST(Client, StampsAndCountsAWholeStream) {
  auto server = serve([](const auto&, auto& c) { play_completion(c, 5, 12, 3); });
  const Exchange e = exchange_with(server->endpoint());
  EXPECT_EQ(e.status, ExchangeStatus::kOk) << e.error;
  EXPECT_EQ(e.http_code, 200);
  EXPECT_EQ(e.tokens.size(), 5u);
  EXPECT_EQ(e.finish_reason, "length");
  EXPECT_EQ(e.usage, (Usage{12, 5, 3}));
  EXPECT_EQ(e.text, " word word word word word");
  ASSERT_TRUE(e.sent);
  EXPECT_LE(e.scheduled, *e.sent);
  EXPECT_LE(*e.sent, e.tokens.front());
  EXPECT_EQ(e.tokens.front(), *e.first_output);
  EXPECT_TRUE(std::is_sorted(e.tokens.begin(), e.tokens.end()));
  EXPECT_LE(e.tokens.back(), e.ended);
}

TEST(Client, RoleAloneIsNoTokenAndReasoningIsNoOutput) {
  auto server = serve([](const auto&, auto& c) {
    c.begin_stream();
    c.frame(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})");
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    c.frame(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})");
    std::this_thread::sleep_for(std::chrono::milliseconds(40));
    c.frame(R"({"choices":[{"delta":{"content":"42"},"finish_reason":"stop"}]})");
    c.end_stream();
  });
  const Exchange e = exchange_with(server->endpoint());
  ASSERT_EQ(e.status, ExchangeStatus::kOk) << e.error;
  ASSERT_EQ(e.tokens.size(), 2u);
  // A sleep never ends early: this bound holds on any machine.
  EXPECT_GE(e.tokens[0] - *e.sent, std::chrono::milliseconds(40));
  EXPECT_EQ(*e.first_output, e.tokens[1]);
  EXPECT_EQ(e.text, "42");
}

TEST(Client, EveryCutOfTheStreamGivesTheSameResult) {
  auto server = serve([](const ReceivedRequest& r, ScriptedConnection& c) {
    // The request's path carries the size of the pieces.
    const size_t piece = std::stoul(r.path.substr(1));
    const std::string head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    std::string body;
    for (const std::string frame :
         {R"({"choices":[{"delta":{"content":"é\"\ud83d\ude00"}}]})",
          R"({"choices":[{"text":"b","finish_reason":"stop"}],"usage":null})",
          R"({"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}})", "[DONE]"}) {
      body += "data: " + frame + "\r\n\r\n";
    }
    std::string wire = head;
    for (size_t at = 0; at < body.size(); at += piece) {
      const std::string part = body.substr(at, piece);
      wire += fmt::format("{:X};ext=1\r\n{}\r\n", part.size(), part);
    }
    wire += "0\r\nTrailer: x\r\n\r\n";
    for (size_t at = 0; at < wire.size(); at += piece) c.send(wire.substr(at, piece));
  });
  for (const int piece : {1, 2, 3, 5, 7, 11, 64, 1000}) {
    Request r = request();
    r.path = "/" + std::to_string(piece);
    const Exchange e = exchange_with(server->endpoint(), std::move(r));
    ASSERT_EQ(e.status, ExchangeStatus::kOk) << piece << ": " << e.error;
    EXPECT_EQ(e.text, "é\"😀b");
    EXPECT_EQ(e.tokens.size(), 2u);
    EXPECT_EQ(e.usage, (Usage{1, 2, std::nullopt}));
  }
}

struct Fault {
  const char* name;
  void (*play)(ScriptedConnection&);
  ExchangeStatus status;
  int http_code;
  const char* fragment;
};

constexpr const char* kToken = R"({"choices":[{"delta":{"content":"a"}}]})";

const Fault kFaults[] = {
    {"truncated",
     [](auto& c) {
       c.begin_stream();
       c.frame(kToken);
       c.close();
     },
     ExchangeStatus::kBrokenStream, 200, "middle of the answer"},
    {"reset",
     [](auto& c) {
       c.begin_stream();
       c.frame(kToken);
       c.reset();
     },
     ExchangeStatus::kBrokenStream, 200, ""},
    {"no answer", [](auto& c) { c.close(); }, ExchangeStatus::kConnectFailed, 0, "before any answer"},
    {"no done",
     [](auto& c) {
       c.begin_stream();
       c.frame(kToken);
       c.send("0\r\n\r\n");
     },
     ExchangeStatus::kBrokenStream, 200, "[DONE]"},
    {"bad json",
     [](auto& c) {
       c.begin_stream();
       c.frame("{\"choices\":[}");
     },
     ExchangeStatus::kBrokenStream, 200, "not valid JSON"},
    {"error frame",
     [](auto& c) {
       c.begin_stream();
       c.frame(R"({"error":{"message":"out of blocks"}})");
     },
     ExchangeStatus::kBrokenStream, 200, "out of blocks"},
    {"500", [](auto& c) { c.reply(500, R"({"error":{"message":"it broke","type":"x"}})"); },
     ExchangeStatus::kHttpError, 500, "it broke"},
    {"401 text", [](auto& c) { c.reply(401, "who are you", "text/plain"); }, ExchangeStatus::kHttpError, 401,
     "who are you"},
    {"not a stream", [](auto& c) { c.reply(200, R"({"choices":[]})"); }, ExchangeStatus::kHttpError, 200,
     "not an event stream"},
    {"garbage", [](auto& c) { c.send("SSH-2.0-x\r\n\r\n"); }, ExchangeStatus::kBrokenStream, 0,
     "status line"},
    {"bad chunk",
     [](auto& c) {
       c.begin_stream();
       c.send("zz\r\n");
     },
     ExchangeStatus::kBrokenStream, 200, "chunk size"},
    {"extra bytes", [](auto& c) { c.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"); },
     ExchangeStatus::kBrokenStream, 200, "after the end"},
};

TEST(Client, EveryFaultIsData) {
  auto server = serve(
      [](const ReceivedRequest& r, ScriptedConnection& c) { kFaults[std::stoul(r.path.substr(1))].play(c); });
  for (size_t i = 0; i < std::size(kFaults); ++i) {
    Request r = request();
    r.path = "/" + std::to_string(i);
    const Exchange e = exchange_with(server->endpoint(), std::move(r));
    EXPECT_EQ(e.status, kFaults[i].status) << kFaults[i].name << ": " << e.error;
    EXPECT_EQ(e.http_code, kFaults[i].http_code) << kFaults[i].name;
    EXPECT_NE(e.error.find(kFaults[i].fragment), std::string::npos) << kFaults[i].name << ": " << e.error;
    EXPECT_FALSE(e.error.empty()) << kFaults[i].name;
  }
}

TEST(Client, SilenceIsATimeOut) {
  std::latch done(1);
  auto server = serve([&](const auto&, auto& c) {
    c.begin_stream();
    c.frame(kToken);
    done.wait();
  });
  const Exchange e = exchange_with(server->endpoint(), request(std::chrono::milliseconds(100)));
  done.count_down();
  EXPECT_EQ(e.status, ExchangeStatus::kTimedOut);
  EXPECT_EQ(e.tokens.size(), 1u);
  EXPECT_GE(e.ended - *e.sent, std::chrono::milliseconds(100));
}

TEST(Client, NobodyListens) {
  Endpoint endpoint;
  {
    endpoint = serve([](const auto&, auto&) {})->endpoint();
  }
  const Exchange e = exchange_with(endpoint);
  EXPECT_EQ(e.status, ExchangeStatus::kConnectFailed);
  EXPECT_NE(e.error.find("refused"), std::string::npos) << e.error;
}

TEST(Client, ConnectionsAreKeptAndReplacedWhenStale) {
  // Every second request on a connection is refused without an answer, as an idle close looks.
  auto server = serve([](const ReceivedRequest& r, ScriptedConnection& c) {
    if (r.on_connection == 2) return c.close();
    play_completion(c, 1, 1, 0);
  });
  auto client = Client::create(server->endpoint()).value();
  const std::atomic<bool> stop{false};
  int ok = 0;
  run_closed_loop(
      *client, {.streams = 1, .requests_per_stream = 6}, [](int, int) { return request(); },
      [&](int, int, Exchange&& e) { ok += e.status == ExchangeStatus::kOk; }, stop);
  EXPECT_EQ(ok, 6);
  EXPECT_EQ(client->connections_opened(), 3);
  EXPECT_EQ(server->connections(), 3);
}

TEST(Client, StopCancelsEverythingOnce) {
  std::latch release(1);
  auto server = serve([&](const auto&, auto& c) {
    c.begin_stream();
    release.wait();
  });
  auto client = Client::create(server->endpoint()).value();
  std::atomic<bool> stop{false};
  std::map<int, int> calls;
  std::thread stopper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    stop = true;
  });
  run_closed_loop(
      *client, {.streams = 4, .requests_per_stream = 3}, [](int, int) { return request(); },
      [&](int index, int, Exchange&& e) {
        EXPECT_EQ(e.status, ExchangeStatus::kCancelled);
        ++calls[index];
      },
      stop);
  stopper.join();
  release.count_down();
  EXPECT_EQ(calls.size(), 4u);
  for (const auto& [index, count] : calls) EXPECT_EQ(count, 1) << index;
}

TEST(Client, LargeRequestsGoOutWhole) {
  std::atomic<size_t> seen{0};
  auto server = serve([&](const ReceivedRequest& r, ScriptedConnection& c) {
    seen = r.body.size();
    play_completion(c, 1, 1, 0);
  });
  Request r = request();
  r.body = std::string(8 << 20, ' ');
  EXPECT_EQ(exchange_with(server->endpoint(), std::move(r)).status, ExchangeStatus::kOk);
  EXPECT_EQ(seen, size_t{8 << 20});
}

TEST(Client, ManyStreamsAtOnce) {
  auto server = serve([](const auto&, auto& c) { play_completion(c, 20, 7, 0); });
  auto client = Client::create(server->endpoint()).value();
  const std::atomic<bool> stop{false};
  int64_t tokens = 0;
  std::map<int, int> indices;
  run_closed_loop(
      *client, {.streams = 32, .requests_per_stream = 5}, [](int, int) { return request(); },
      [&](int index, int stream, Exchange&& e) {
        EXPECT_EQ(index % 32, stream);
        ++indices[index];
        tokens += std::ssize(e.tokens);
      },
      stop);
  EXPECT_EQ(tokens, 32 * 5 * 20);
  EXPECT_EQ(indices.size(), 160u);
  EXPECT_LE(client->connections_opened(), 32);
}

TEST(OpenLoop, ASlowServerDoesNotDelayTheSchedule) {
  // Every answer takes far longer than the gap between requests: scheduled times must not care.
  auto server = serve([](const auto&, auto& c) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    play_completion(c, 1, 1, 0);
  });
  auto client = Client::create(server->endpoint()).value();
  const std::atomic<bool> stop{false};
  const auto offsets = constant_arrivals(200, 20);
  std::vector<TimePoint> scheduled(offsets.size());
  run_open_loop(
      *client, offsets, [](int, int) { return request(); },
      [&](int index, int, Exchange&& e) {
        scheduled[static_cast<size_t>(index)] = e.scheduled;
        EXPECT_GE(*e.sent, e.scheduled);
        EXPECT_EQ(e.status, ExchangeStatus::kOk);
      },
      stop);
  for (size_t i = 1; i < offsets.size(); ++i) EXPECT_EQ(scheduled[i] - scheduled[0], offsets[i]);
  EXPECT_GT(client->connections_opened(), 4);
}

}  // namespace
}  // namespace crible::load
