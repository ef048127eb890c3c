// The HTTP server: a listener, one I/O thread that owns every connection, a worker thread for long
// texts and an admin thread that may wait for the engine. bind() early, to find a busy port before a
// model is loaded; the port takes connections from start() on.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "config/server_config.h"
#include "engine/engine_service.h"
#include "server/gpu_watch.h"
#include "text/text_model.h"

namespace crible {

struct HttpLimits {
  std::chrono::milliseconds idle{300'000};    // between requests of one connection
  std::chrono::milliseconds header{30'000};   // from the first byte to the end of the header
  std::chrono::milliseconds body{120'000};    // for the whole body
  std::chrono::milliseconds write{60'000};    // without the client taking a byte
  uint32_t header_bytes = 64 << 10;
  int64_t connections = 16'384;               // more wait in the kernel's queue
  size_t inline_body_bytes = 8 << 10;         // longer bodies are prepared on the worker thread
  size_t unread_bytes = 4 << 20;              // of a stream, kept for a client that is slower than it
};
HttpLimits http_limits(const ServerConfig& config);

class HttpServer {
 public:
  // Takes the port without listening yet. A busy one is kUnavailable and the message names it.
  static Result<std::unique_ptr<HttpServer>> bind(const ServerConfig& config, const HttpLimits& limits);
  // Stops: ends the engine's sequences, closes every connection.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The port bound, also when any was asked for.
  uint16_t port() const;
  // Listens, and serves until stopped. engine and text must outlive the server; the server stops the
  // engine when it stops, so that no sequence reports to a server that is gone.
  // gpus: that the engine computes on, for the metrics.
  Status start(EngineService& engine, const TextModel& text, GpuWatch gpus = {});
  // SIGTERM and SIGINT begin the drain; a second one ends the process at once, with exit code 1.
  void drain_on_signals();

  // No new work; running requests finish until the drain time-out, then everything ends. Any thread.
  void begin_drain();
  // Blocks until drained or stopped.
  void wait();
  void stop();

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace crible
