// The protocol half of one exchange: bytes to send, bytes received in any cut, stamps, outcome.
// Knows no socket, so every fault can be played to it. One transfer, one exchange.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "load/exchange.h"
#include "load/http_response.h"
#include "wire/sse.h"

namespace crible::load {

class Transfer {
 public:
  using Done = std::function<void(Exchange&&)>;

  Transfer(Request request, std::string bytes, TimePoint scheduled, Done done);

  TimePoint scheduled() const { return exchange_.scheduled; }
  TimePoint deadline() const { return exchange_.sent.value_or(exchange_.scheduled) + request_.timeout; }

  std::string_view unsent() const { return std::string_view(bytes_).substr(sent_bytes_); }
  // `at`: just before the call that sent them.
  void on_sent(size_t bytes, TimePoint at);
  // Each returns true once the exchange is over.
  bool on_data(std::string_view data, TimePoint at);
  bool on_close(TimePoint at);
  void abort(ExchangeStatus status, std::string message, TimePoint at);

  bool answered() const { return reader_.started(); }
  // The connection may be used again.
  bool reusable() const { return reader_.done() && reader_.keep_alive() && sent_bytes_ == bytes_.size(); }
  // Back to the beginning, to be sent over another connection.
  void rewind();

  void finish() { done_(std::move(exchange_)); }

 private:
  bool end(ExchangeStatus status, std::string message, TimePoint at);
  bool take_body(std::string_view body, TimePoint at);
  bool take_frame(std::string_view data, TimePoint at);
  bool end_of_message(TimePoint at);

  Request request_;
  std::string bytes_;
  size_t sent_bytes_ = 0;
  HttpResponseReader reader_;
  SseParser events_{size_t{1} << 20};
  std::string error_body_;
  bool saw_done_ = false;
  Exchange exchange_;
  Done done_;
};

}  // namespace crible::load
