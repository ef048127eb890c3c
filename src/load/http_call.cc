#include "load/http_call.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "load/http_response.h"

namespace crible::load {
namespace {

constexpr size_t kMaxReplyBytes = 64 << 20;

// Waits until the socket can do what `events` says.
Status wait_ready(int fd, short events, TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now()).count();
    if (left <= 0) return fail(ErrorCode::kDeadlineExceeded, "no answer within the time-out");
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    const int n = ::poll(&waited, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return fail(ErrorCode::kIo, "poll: {}", std::strerror(errno));
  }
}

}  // namespace

HttpCaller::HttpCaller(HttpCaller&& other) noexcept
    : endpoint_(std::move(other.endpoint_)), address_(other.address_), fd_(std::exchange(other.fd_, -1)) {}

HttpCaller& HttpCaller::operator=(HttpCaller&& other) noexcept {
  std::swap(endpoint_, other.endpoint_);
  std::swap(address_, other.address_);
  std::swap(fd_, other.fd_);
  return *this;
}

HttpCaller::~HttpCaller() {
  disconnect();
}

void HttpCaller::disconnect() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Status HttpCaller::connect(TimePoint deadline) {
  if (!address_) {
    CRIBLE_TRY(address_, resolve_address(endpoint_));
  }
  fd_ = ::socket(address_->family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return fail(ErrorCode::kResourceExhausted, "cannot open a socket: {}", std::strerror(errno));
  const int one = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  int error = ::connect(fd_, address_->get(), address_->length) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    CRIBLE_RETURN_IF_ERROR(wait_ready(fd_, POLLOUT, deadline));
    socklen_t length = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  if (error == 0) return {};
  disconnect();
  return fail(ErrorCode::kUnavailable, "cannot connect to {}: {}", to_url(endpoint_), std::strerror(error));
}

Result<HttpReply> HttpCaller::exchange(std::string_view request, TimePoint deadline, bool& answered) {
  while (!request.empty()) {
    CRIBLE_RETURN_IF_ERROR(wait_ready(fd_, POLLOUT, deadline));
    const ssize_t n = ::send(fd_, request.data(), request.size(), MSG_NOSIGNAL);
    if (n > 0) request.remove_prefix(static_cast<size_t>(n));
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return fail(ErrorCode::kIo, "send: {}", std::strerror(errno));
  }
  HttpResponseReader reader;
  HttpReply reply;
  std::array<char, 16 << 10> buffer;
  while (!reader.done()) {
    CRIBLE_RETURN_IF_ERROR(wait_ready(fd_, POLLIN, deadline));
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n < 0) return fail(ErrorCode::kIo, "receive: {}", std::strerror(errno));
    if (n == 0) {
      CRIBLE_RETURN_IF_ERROR(reader.finish());
      break;
    }
    answered = true;
    std::string_view data(buffer.data(), static_cast<size_t>(n));
    while (!data.empty() && !reader.done()) {
      std::string_view body;
      CRIBLE_TRY(const size_t taken, reader.advance(data, body));
      reply.body.append(body);
      data.remove_prefix(taken);
      if (reply.body.size() > kMaxReplyBytes)
        return fail(ErrorCode::kResourceExhausted, "the answer is over 64 MiB");
    }
  }
  reply.code = reader.code();
  if (!reader.keep_alive()) disconnect();
  return reply;
}

Result<HttpReply> HttpCaller::call(std::string_view method, std::string_view path, std::string_view body,
                                   std::chrono::milliseconds timeout) {
  const TimePoint deadline = now() + timeout;
  const std::string request = serialize_request(endpoint_, method, path, body);
  while (true) {
    const bool reused = fd_ >= 0;
    if (!reused) CRIBLE_RETURN_IF_ERROR(connect(deadline));
    bool answered = false;
    auto reply = exchange(request, deadline, answered);
    if (reply) return reply;
    disconnect();
    // A kept-alive connection may have been ended by the server meanwhile: one more try on a new one.
    const bool stale = reused && !answered && reply.error().code != ErrorCode::kDeadlineExceeded;
    if (!stale) return tl::unexpected(with_context(reply.error(), fmt::format("{} {}", method, path)));
  }
}

}  // namespace crible::load
