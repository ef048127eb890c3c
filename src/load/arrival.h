// When requests are sent. Open loop: at times fixed before the run, whatever the server does, so
// that a slow server cannot thin out its own load (coordinated omission). Closed loop: a number of
// streams, each sending its next request when its last has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "load/client.h"

namespace crible::load {

// Offsets from the start, ascending, the first at or after 0. rate > 0.
std::vector<Nanoseconds> constant_arrivals(double requests_per_s, int count);
// Exponential gaps. The same seed gives the same times on every platform.
std::vector<Nanoseconds> poisson_arrivals(double requests_per_s, int count, uint64_t seed);

struct ClosedLoop {
  int streams = 1;
  int requests_per_stream = 1;
  Clock::duration pause = Clock::duration::zero();  // between an end and the next send
};

// index: position in the whole run, from 0; stream: who sends it.
using MakeRequest = std::function<Request(int index, int stream)>;
using OnExchange = std::function<void(int index, int stream, Exchange&& exchange)>;

// Both build every request before the first is sent, and return when all have ended. Closed loop:
// request i of stream s has index i * streams + s.
void run_closed_loop(Client& client, const ClosedLoop& loop, const MakeRequest& make,
                     const OnExchange& on_exchange, const std::atomic<bool>& stop);
void run_open_loop(Client& client, std::span<const Nanoseconds> offsets, const MakeRequest& make,
                   const OnExchange& on_exchange, const std::atomic<bool>& stop);

}  // namespace crible::load
