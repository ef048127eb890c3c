#include "load/arrival.h"

#include <cmath>
#include <random>

#include "base/check.h"

namespace crible::load {
namespace {

Nanoseconds from_seconds(double seconds) {
  return Nanoseconds(static_cast<int64_t>(std::llround(seconds * 1e9)));
}

// One stream's requests, in order; submits the next when one ends.
class Stream {
 public:
  Stream(Client& client, std::vector<Request> requests, int first_index, int stride, int stream,
         Clock::duration pause, const OnExchange& on_exchange)
      : client_(client),
        requests_(std::move(requests)),
        index_(first_index),
        stride_(stride),
        stream_(stream),
        pause_(pause),
        on_exchange_(on_exchange) {}

  void send_next(TimePoint scheduled) {
    client_.submit(std::move(requests_[next_++]), scheduled, [this](Exchange&& exchange) {
      const bool stopped = exchange.status == ExchangeStatus::kCancelled;
      const TimePoint ended = exchange.ended;
      on_exchange_(index_, stream_, std::move(exchange));
      index_ += stride_;
      if (!stopped && next_ < requests_.size()) send_next(ended + pause_);
    });
  }

 private:
  Client& client_;
  std::vector<Request> requests_;
  size_t next_ = 0;
  int index_;
  int stride_;
  int stream_;
  Clock::duration pause_;
  const OnExchange& on_exchange_;
};

}  // namespace

std::vector<Nanoseconds> constant_arrivals(double requests_per_s, int count) {
  CHECK(requests_per_s > 0);
  std::vector<Nanoseconds> offsets;
  for (int i = 0; i < count; ++i) offsets.push_back(from_seconds(i / requests_per_s));
  return offsets;
}

std::vector<Nanoseconds> poisson_arrivals(double requests_per_s, int count, uint64_t seed) {
  CHECK(requests_per_s > 0);
  std::mt19937_64 random(seed);
  std::vector<Nanoseconds> offsets;
  double at = 0;
  for (int i = 0; i < count; ++i) {
    offsets.push_back(from_seconds(at));
    // Uniform in (0, 1], so that the logarithm is finite; written out because
    // std::exponential_distribution differs between standard libraries.
    const double uniform = (static_cast<double>(random() >> 11) + 1.0) * 0x1p-53;
    at += -std::log(uniform) / requests_per_s;
  }
  return offsets;
}

void run_closed_loop(Client& client, const ClosedLoop& loop, const MakeRequest& make,
                     const OnExchange& on_exchange, const std::atomic<bool>& stop) {
  std::vector<Stream> streams;
  streams.reserve(static_cast<size_t>(loop.streams));
  for (int s = 0; s < loop.streams; ++s) {
    std::vector<Request> requests;
    for (int i = 0; i < loop.requests_per_stream; ++i) requests.push_back(make(i * loop.streams + s, s));
    streams.emplace_back(client, std::move(requests), s, loop.streams, s, loop.pause, on_exchange);
  }
  const TimePoint start = now();
  for (Stream& stream : streams) stream.send_next(start);
  client.run(stop);
}

void run_open_loop(Client& client, std::span<const Nanoseconds> offsets, const MakeRequest& make,
                   const OnExchange& on_exchange, const std::atomic<bool>& stop) {
  std::vector<Request> requests;
  const int count = static_cast<int>(offsets.size());
  for (int i = 0; i < count; ++i) requests.push_back(make(i, i));
  const TimePoint start = now();
  for (int i = 0; i < count; ++i) {
    client.submit(std::move(requests[static_cast<size_t>(i)]), start + offsets[static_cast<size_t>(i)],
                  [&on_exchange, i](Exchange&& exchange) { on_exchange(i, i, std::move(exchange)); });
  }
  client.run(stop);
}

}  // namespace crible::load
