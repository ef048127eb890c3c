// What a token costs the server: many streams over the fake engine at a fixed pace, read by a client
// that throws the bytes away. Reported: processor time of everything but the client, by frame, and
// the share of one core that this pace takes.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "engine/fake_engine.h"
#include "server/http_server.h"
#include "server/prepare.h"
#include "text/text_model.h"

namespace crible {
namespace {

constexpr int kTokens = 200;
constexpr std::chrono::milliseconds kStep{10};

double cpu_seconds(int who) {
  rusage usage{};
  getrusage(who, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int connect_to(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  CHECK(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "port {}", port);
  return fd;
}

// Sends the request on every connection and reads until all have closed; frames read.
int64_t run_streams(uint16_t port, int64_t streams, const std::string& request) {
  std::vector<pollfd> sockets;
  for (int64_t i = 0; i < streams; ++i) {
    sockets.push_back({.fd = connect_to(port), .events = POLLIN, .revents = 0});
    CHECK(::send(sockets.back().fd, request.data(), request.size(), MSG_NOSIGNAL) > 0, "sending");
  }
  int64_t frames = 0;
  std::string bytes(1 << 16, '\0');
  for (int64_t open = streams; open > 0;) {
    CHECK(::poll(sockets.data(), sockets.size(), 60'000) > 0, "the server has stopped answering");
    for (pollfd& s : sockets) {
      if (s.fd < 0 || s.revents == 0) continue;
      const ssize_t n = ::recv(s.fd, bytes.data(), bytes.size(), 0);
      for (ssize_t i = 0; i + 1 < n; ++i) frames += bytes[i] == '\n' && bytes[i + 1] == '\n';
      if (n > 0) continue;
      ::close(s.fd);
      s.fd = -1;  // poll passes over it
      --open;
    }
  }
  return frames;
}

void streams(benchmark::State& state) {
  const auto text = load_text_model(CRIBLE_SOURCE_DIR "/models/default.gguf");
  CHECK(text.has_value(), "{}", text.error().message);
  FakeEngineOptions options;
  options.per_step = kStep;
  options.config.max_num_seqs = state.range(0);
  auto engine = start_fake_engine(std::move(options));
  CHECK(engine.has_value(), "{}", engine.error().message);
  ServerConfig config;
  config.port = 0;
  const auto server = HttpServer::bind(config, http_limits(config));
  CHECK(server.has_value() && (*server)->start(**engine, *text).has_value(), "the server does not start");
  const std::string body =
      fmt::format(R"({{"prompt":[5,6,7],"max_tokens":{},"stream":true,"ignore_eos":true}})", kTokens);
  const std::string request = fmt::format("POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
                                          "Content-Length: {}\r\n\r\n{}", body.size(), body);
  int64_t frames = 0;
  double server_seconds = 0, wall_seconds = 0;
  for (auto _ : state) {
    const TimePoint start = now();
    const double before = cpu_seconds(RUSAGE_SELF) - cpu_seconds(RUSAGE_THREAD);
    frames += run_streams((*server)->port(), state.range(0), request);
    const double used = cpu_seconds(RUSAGE_SELF) - cpu_seconds(RUSAGE_THREAD) - before;
    state.SetIterationTime(used);
    server_seconds += used;
    wall_seconds += to_seconds(now() - start);
  }
  state.counters["server_us_per_frame"] = server_seconds / static_cast<double>(frames) * 1e6;
  state.counters["share_of_core"] = server_seconds / wall_seconds;
  state.counters["frames_per_s"] = static_cast<double>(frames) / wall_seconds;
}
BENCHMARK(streams)->Arg(1)->Arg(16)->Arg(256)->Iterations(1)->UseManualTime()->Unit(benchmark::kMillisecond);

// A prompt of token ids from the request's text to the engine's request.
void prepare_ids(benchmark::State& state) {
  const auto text = load_text_model(CRIBLE_SOURCE_DIR "/models/default.gguf");
  CHECK(text.has_value(), "{}", text.error().message);
  const ServedModel model{.text = *text, .name = "bench", .max_model_len = 1 << 20};
  std::string body = R"({"prompt":[)";
  for (int64_t i = 0; i < state.range(0); ++i) body += fmt::format("{}{}", i == 0 ? "" : ", ", 300 + i * 7919 % 40'000);
  body += R"(],"max_tokens":1,"stream":true})";
  for (auto _ : state) {
    const auto prepared = prepare_completion(CompletionKind::kText, body, model);
    CHECK(prepared.has_value(), "{}", prepared.error().message);
    benchmark::DoNotOptimize(prepared->prompts[0].tokens.data());
  }
}
BENCHMARK(prepare_ids)->Arg(128)->Arg(2048)->Arg(16064)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
