// Short control calls (health, metrics, configuration): blocking, one kept-alive connection, a
// deadline over the whole call. Nothing here is timed for the study.
// Not thread-safe: one caller, one thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "load/endpoint.h"

namespace crible::load {

struct HttpReply {
  int code = 0;
  std::string body;
};

class HttpCaller {
 public:
  explicit HttpCaller(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}
  HttpCaller(HttpCaller&& other) noexcept;
  HttpCaller& operator=(HttpCaller&& other) noexcept;
  HttpCaller(const HttpCaller&) = delete;
  HttpCaller& operator=(const HttpCaller&) = delete;
  ~HttpCaller();

  const Endpoint& endpoint() const { return endpoint_; }

  // Any HTTP status is a reply; an Error means that no whole answer came (kUnavailable: nobody
  // listens; kDeadlineExceeded; kIo; kCorrupt).
  Result<HttpReply> call(std::string_view method, std::string_view path, std::string_view body,
                         std::chrono::milliseconds timeout);
  Result<HttpReply> get(std::string_view path, std::chrono::milliseconds timeout) {
    return call("GET", path, {}, timeout);
  }

 private:
  Status connect(TimePoint deadline);
  Result<HttpReply> exchange(std::string_view request, TimePoint deadline, bool& answered);
  void disconnect();

  Endpoint endpoint_;
  std::optional<SocketAddress> address_;
  int fd_ = -1;
};

}  // namespace crible::load
