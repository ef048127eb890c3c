// The load generator's client: one thread, one epoll set, a pool of kept-alive connections. Requests
// are sent at their scheduled times; stamps are taken at the socket. All callbacks run on the thread
// inside run(), and may submit further requests.
// Not thread-safe; only the stop flag may be touched from elsewhere.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "load/endpoint.h"
#include "load/exchange.h"
#include "load/transfer.h"

namespace crible::load {

class Client {
 public:
  // Resolves the host; connects to nothing yet.
  static Result<std::unique_ptr<Client>> create(const Endpoint& endpoint);
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client();

  // `done` is called exactly once, whatever happens, from run().
  void submit(Request request, TimePoint scheduled, Transfer::Done done);
  // Returns when no request is left. Once `stop` is true everything left ends as cancelled.
  void run(const std::atomic<bool>& stop);

  int64_t connections_opened() const { return connections_opened_; }

 private:
  struct Connection;

  Client(const Endpoint& endpoint, const SocketAddress& address, int poll);

  std::unique_ptr<Transfer> pop_pending();
  void start_due(TimePoint at);
  void start(std::unique_ptr<Transfer> transfer);
  void start_on_new_connection(std::unique_ptr<Transfer> transfer);
  void watch(Connection& connection, bool writable);
  void send_some(Connection& connection);
  void receive_some(Connection& connection);
  void on_event(Connection& connection, uint32_t events);
  // The socket has failed or was closed: ends, or retries, the transfer on it.
  void on_lost(Connection& connection, const std::string& why, TimePoint at);
  void complete(Connection& connection);
  void close(Connection& connection);
  void expire(TimePoint at);
  void cancel_all();
  void wait_for_events();

  Endpoint endpoint_;
  SocketAddress address_;
  int poll_ = -1;
  std::vector<std::unique_ptr<Transfer>> pending_;  // heap: earliest scheduled first
  std::vector<std::unique_ptr<Connection>> open_;   // position kept in Connection::place
  std::vector<Connection*> idle_;
  // Closed in this round of events; freed after it, because an event may still point to them.
  std::vector<std::unique_ptr<Connection>> closed_;
  int64_t busy_ = 0;  // transfers under way
  int64_t connections_opened_ = 0;
  TimePoint next_expiry_check_{};
  std::vector<char> buffer_;
};

}  // namespace crible::load
