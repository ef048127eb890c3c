// An HTTP server that plays what a handler tells it, byte by byte if need be: the counterpart of the
// client in tests and in the measurement of the generator's own cost. Listens on 127.0.0.1, one thread
// per connection; knows no model.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "load/endpoint.h"

namespace crible::load {

struct ReceivedRequest {
  std::string method;
  std::string path;
  std::string head;  // request line and headers
  std::string body;
  int number = 0;         // over all connections, from 0
  int on_connection = 0;  // over this connection, from 0
};

class ScriptedConnection {
 public:
  explicit ScriptedConnection(int fd) : fd_(fd) {}

  void send(std::string_view bytes);
  void reply(int code, std::string_view body, std::string_view content_type = "application/json");
  // A chunked event stream: begin, frames, end.
  void begin_stream();
  void frame(std::string_view data);
  void end_stream();
  // The connection ends after this: with FIN, or with RST.
  void close() { open_ = false; }
  void reset();

  bool open() const { return open_; }

 private:
  int fd_;
  bool open_ = true;
};

class ScriptedServer {
 public:
  using Handler = std::function<void(const ReceivedRequest&, ScriptedConnection&)>;

  // The handler runs on the connection's thread; several may run at once.
  static Result<std::unique_ptr<ScriptedServer>> start(Handler handler);
  ~ScriptedServer();

  Endpoint endpoint() const { return {.host = "127.0.0.1", .port = port_, .base_path = {}, .api_key = {}}; }
  uint16_t port() const { return port_; }
  int connections() const { return connections_; }

 private:
  ScriptedServer(int listener, uint16_t port, Handler handler);
  void accept_loop();
  void serve(int fd);

  int listener_;
  uint16_t port_;
  Handler handler_;
  std::atomic<int> connections_{0};
  std::atomic<int> requests_{0};
  std::mutex mutex_;
  std::vector<int> open_;  // sockets under way, shut down to end their threads
  std::vector<std::thread> threads_;
  bool stopping_ = false;
  std::thread acceptor_;
};

// The usual frames: role, `tokens` one-token frames, end, usage.
void play_completion(ScriptedConnection& connection, int tokens, int prompt_tokens, int cached_tokens);

}  // namespace crible::load
