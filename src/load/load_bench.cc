// What the generator itself costs and adds. A server without a model sends canned frames, one per write and
// evenly spread over the streams; measured are the client's processor time per million frames, with full
// parsing, and the time from the server's write to the client's stamp.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <thread>

#include "base/check.h"
#include "load/arrival.h"

namespace crible::load {
namespace {

double thread_cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::string chunk(std::string_view data) {
  return fmt::format("{:x}\r\ndata: {}\n\n\r\n", data.size() + 8, data);
}

// What a real server sends for one token of a chat, about 200 bytes.
const std::string kFrame = chunk(
    R"({"id":"chatcmpl-8f14e45fceea167a5a36dedd4bea2543","object":"chat.completion.chunk","created":1769860000,)"
    R"("model":"default","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]})");

// Serves one round: takes `streams` requests (their number is the path), then sends `frames` frames to
// each, spread evenly over time, and ends.
class NullServer {
 public:
  NullServer(int streams, int frames, double frames_per_s)
      : frames_(frames),
        interval_(static_cast<int64_t>(1e9 / frames_per_s)),
        sockets_(static_cast<size_t>(streams)),
        sent_(static_cast<size_t>(streams)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    CHECK(::bind(listener_, generic, length) == 0 && ::listen(listener_, streams) == 0);
    CHECK(::getsockname(listener_, generic, &length) == 0);
    port_ = ntohs(address.sin_port);
    for (auto& times : sent_) times.reserve(static_cast<size_t>(frames));
    thread_ = std::thread([this] { serve(); });
  }
  ~NullServer() {
    join();
    ::close(listener_);
  }

  Endpoint endpoint() const { return {.host = "127.0.0.1", .port = port_, .base_path = {}, .api_key = {}}; }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  const std::vector<TimePoint>& sent(int stream) const { return sent_[static_cast<size_t>(stream)]; }

 private:
  static void write(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      CHECK(n > 0);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }

  void serve() {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    for (size_t i = 0; i < sockets_.size(); ++i) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      const int one = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      std::string head;
      char byte;
      while (!head.ends_with("\r\n\r\n{}") && ::recv(fd, &byte, 1, 0) == 1) head += byte;
      sockets_[std::stoul(head.substr(head.find('/') + 1))] = fd;
    }
    for (const int fd : sockets_) {
      write(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    const TimePoint start = now();
    int64_t sent = 0;
    for (int frame = 0; frame < frames_; ++frame) {
      for (size_t s = 0; s < sockets_.size(); ++s, ++sent) {
        const TimePoint due = start + Nanoseconds(interval_ * sent);
        while (now() < due) std::this_thread::sleep_until(due);
        sent_[s].push_back(now());
        write(sockets_[s], kFrame);
      }
    }
    for (const int fd : sockets_) {
      write(fd, chunk("[DONE]") + "0\r\n\r\n");
      ::close(fd);
    }
  }

  int listener_ = -1;
  uint16_t port_ = 0;
  int frames_;
  int64_t interval_;  // between any two frames, nanoseconds
  std::vector<int> sockets_;
  std::vector<std::vector<TimePoint>> sent_;
  std::thread thread_;
};

// Arguments: streams, frames per second over all of them.
void BM_Streams(benchmark::State& state) {
  const int streams = static_cast<int>(state.range(0));
  const double rate = static_cast<double>(state.range(1));
  const int frames = std::max(20, static_cast<int>(2 * rate / streams));
  double cpu_s = 0;
  int64_t received = 0;
  std::vector<double> added_ms;
  const std::atomic<bool> stop{false};
  for (auto _ : state) {
    NullServer server(streams, frames, rate);
    auto client = Client::create(server.endpoint()).value();
    std::vector<std::vector<TimePoint>> stamps(static_cast<size_t>(streams));
    const double cpu_before = thread_cpu_seconds();
    run_closed_loop(
        *client, {.streams = streams, .requests_per_stream = 1},
        [&](int index, int) {
          return Request{.path = "/" + std::to_string(index), .body = "{}", .expected_tokens = frames};
        },
        [&](int index, int, Exchange&& e) {
          CHECK(e.status == ExchangeStatus::kOk, "{}", e.error);
          stamps[static_cast<size_t>(index)] = std::move(e.tokens);
        },
        stop);
    cpu_s += thread_cpu_seconds() - cpu_before;
    server.join();
    for (int s = 0; s < streams; ++s) {
      const auto& times = stamps[static_cast<size_t>(s)];
      CHECK(std::ssize(times) == frames);
      received += frames;
      for (size_t i = 0; i < times.size(); ++i) added_ms.push_back(to_ms(times[i] - server.sent(s)[i]));
    }
  }
  std::ranges::sort(added_ms);
  const auto quantile = [&](double q) {
    return added_ms[static_cast<size_t>(q * double(added_ms.size() - 1))];
  };
  state.counters["cpu_s_per_Mframe"] = cpu_s * 1e6 / double(received);
  state.counters["added_ms_p50"] = quantile(0.5);
  state.counters["added_ms_p99"] = quantile(0.99);
  state.counters["frames"] = double(received);
}

// Parsing alone: the ceiling of the above.
void BM_ParseFrame(benchmark::State& state) {
  const std::string_view json =
      std::string_view(kFrame).substr(kFrame.find('{'), kFrame.rfind('}') + 1 - kFrame.find('{'));
  for (auto _ : state) benchmark::DoNotOptimize(read_completion_frame(json, nullptr));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(json.size()));
}

BENCHMARK(BM_Streams)
    ->Args({1, 1000})
    ->Args({50, 5000})
    ->Args({200, 20000})
    ->Args({1000, 100000})
    ->Iterations(1)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ParseFrame);

}  // namespace
}  // namespace crible::load
