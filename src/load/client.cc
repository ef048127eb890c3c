#include "load/client.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace crible::load {
namespace {

constexpr size_t kReceiveBytes = 256 << 10;
constexpr auto kExpiryInterval = std::chrono::milliseconds(20);

// Heap order: the transfer scheduled first on top.
bool later(const std::unique_ptr<Transfer>& a, const std::unique_ptr<Transfer>& b) {
  return a->scheduled() > b->scheduled();
}

}  // namespace

struct Client::Connection {
  int fd = -1;
  size_t place = 0;  // index in open_
  bool connected = false;
  bool fresh = true;  // has not yet carried a whole exchange
  bool watching_writable = false;
  std::unique_ptr<Transfer> transfer;
};

Result<std::unique_ptr<Client>> Client::create(const Endpoint& endpoint) {
  CRIBLE_TRY(const SocketAddress address, resolve_address(endpoint));
  const int poll = ::epoll_create1(EPOLL_CLOEXEC);
  if (poll < 0)
    return fail(ErrorCode::kResourceExhausted, "cannot create an epoll set: {}", std::strerror(errno));
  return std::unique_ptr<Client>(new Client(endpoint, address, poll));
}

Client::Client(const Endpoint& endpoint, const SocketAddress& address, int poll)
    : endpoint_(endpoint), address_(address), poll_(poll), buffer_(kReceiveBytes) {}

Client::~Client() {
  for (auto& connection : open_) ::close(connection->fd);
  ::close(poll_);
}

void Client::submit(Request request, TimePoint scheduled, Transfer::Done done) {
  std::string bytes = serialize_request(endpoint_, "POST", request.path, request.body);
  pending_.push_back(
      std::make_unique<Transfer>(std::move(request), std::move(bytes), scheduled, std::move(done)));
  std::push_heap(pending_.begin(), pending_.end(), later);
}

std::unique_ptr<Transfer> Client::pop_pending() {
  std::pop_heap(pending_.begin(), pending_.end(), later);
  auto transfer = std::move(pending_.back());
  pending_.pop_back();
  return transfer;
}

void Client::run(const std::atomic<bool>& stop) {
  // The default slack of 50 us would delay every scheduled send.
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  next_expiry_check_ = now() + kExpiryInterval;
  while (busy_ > 0 || !pending_.empty()) {
    if (stop.load(std::memory_order_relaxed)) {
      cancel_all();
      break;
    }
    start_due(now());
    wait_for_events();
    if (const TimePoint at = now(); at >= next_expiry_check_) expire(at);
  }
}

void Client::start_due(TimePoint at) {
  while (!pending_.empty() && pending_.front()->scheduled() <= at) start(pop_pending());
}

void Client::start(std::unique_ptr<Transfer> transfer) {
  ++busy_;
  if (idle_.empty()) return start_on_new_connection(std::move(transfer));
  Connection& connection = *idle_.back();
  idle_.pop_back();
  connection.transfer = std::move(transfer);
  send_some(connection);
}

void Client::start_on_new_connection(std::unique_ptr<Transfer> transfer) {
  const int fd = ::socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int one = 1;
  bool failed = fd < 0;
  bool waiting = false;
  if (!failed) {
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    waiting = ::connect(fd, address_.get(), address_.length) != 0;
    failed = waiting && errno != EINPROGRESS;
  }
  if (failed) {
    transfer->abort(ExchangeStatus::kConnectFailed,
                    fmt::format("cannot connect to {}: {}", to_url(endpoint_), std::strerror(errno)), now());
    if (fd >= 0) ::close(fd);
    --busy_;
    return transfer->finish();
  }
  ++connections_opened_;
  auto owned = std::make_unique<Connection>();
  Connection& connection = *owned;
  connection.fd = fd;
  connection.place = open_.size();
  connection.connected = !waiting;
  connection.watching_writable = waiting;
  connection.transfer = std::move(transfer);
  open_.push_back(std::move(owned));
  epoll_event event{.events = EPOLLIN | (waiting ? EPOLLOUT : 0U), .data = {.ptr = &connection}};
  CHECK(::epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl: {}", std::strerror(errno));
  if (connection.connected) send_some(connection);
}

void Client::watch(Connection& connection, bool writable) {
  if (connection.watching_writable == writable) return;
  connection.watching_writable = writable;
  epoll_event event{.events = EPOLLIN | (writable ? EPOLLOUT : 0U), .data = {.ptr = &connection}};
  CHECK(::epoll_ctl(poll_, EPOLL_CTL_MOD, connection.fd, &event) == 0, "epoll_ctl: {}", std::strerror(errno));
}

void Client::send_some(Connection& connection) {
  Transfer& transfer = *connection.transfer;
  while (!transfer.unsent().empty()) {
    const std::string_view bytes = transfer.unsent();
    const TimePoint at = now();
    const ssize_t n = ::send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      transfer.on_sent(static_cast<size_t>(n), at);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return watch(connection, true);
    } else if (errno != EINTR) {
      return on_lost(connection, std::strerror(errno), at);
    }
  }
  watch(connection, false);
}

void Client::receive_some(Connection& connection) {
  const ssize_t n = ::recv(connection.fd, buffer_.data(), buffer_.size(), 0);
  const TimePoint at = now();
  if (n < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;
    return on_lost(connection, std::strerror(errno), at);
  }
  if (n == 0) return on_lost(connection, {}, at);
  if (connection.transfer->on_data(std::string_view(buffer_.data(), static_cast<size_t>(n)), at))
    complete(connection);
}

void Client::on_event(Connection& connection, uint32_t events) {
  if (!connection.transfer) return close(connection);  // idle, and the server has ended it
  if (!connection.connected) {
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      return on_lost(connection,
                     fmt::format("cannot connect to {}: {}", to_url(endpoint_), std::strerror(error)), now());
    }
    if (!(events & EPOLLOUT)) return;
    connection.connected = true;
    return send_some(connection);
  }
  if (events & EPOLLOUT) send_some(connection);
  const bool still_there = connection.fd >= 0 && connection.transfer;
  if (still_there && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) receive_some(connection);
}

void Client::on_lost(Connection& connection, const std::string& why, TimePoint at) {
  auto transfer = std::move(connection.transfer);
  const bool stale = !connection.fresh && !transfer->answered();
  close(connection);
  if (stale) {
    // The server ended the idle connection just as it was taken from the pool (RFC 9112, 9.3.1).
    transfer->rewind();
    return start_on_new_connection(std::move(transfer));
  }
  if (why.empty()) {
    transfer->on_close(at);
  } else {
    transfer->abort(transfer->answered() ? ExchangeStatus::kBrokenStream : ExchangeStatus::kConnectFailed,
                    why, at);
  }
  --busy_;
  transfer->finish();
}

void Client::complete(Connection& connection) {
  auto transfer = std::move(connection.transfer);
  if (transfer->reusable()) {
    connection.fresh = false;
    idle_.push_back(&connection);
  } else {
    close(connection);
  }
  --busy_;
  transfer->finish();
}

void Client::close(Connection& connection) {
  ::close(connection.fd);
  connection.fd = -1;
  std::erase(idle_, &connection);
  const size_t place = connection.place;
  closed_.push_back(std::move(open_[place]));
  if (place + 1 != open_.size()) {
    open_[place] = std::move(open_.back());
    open_[place]->place = place;
  }
  open_.pop_back();
}

void Client::expire(TimePoint at) {
  next_expiry_check_ = at + kExpiryInterval;
  // close() moves the last connection into the freed place: going down, each is seen once.
  for (size_t i = open_.size(); i-- > 0;) {
    Connection& connection = *open_[i];
    if (!connection.transfer || connection.transfer->deadline() > at) continue;
    auto transfer = std::move(connection.transfer);
    close(connection);
    transfer->abort(ExchangeStatus::kTimedOut, "no end of the answer within the time-out", at);
    --busy_;
    transfer->finish();
  }
  closed_.clear();
}

void Client::cancel_all() {
  const TimePoint at = now();
  std::vector<std::unique_ptr<Transfer>> cancelled;
  for (size_t i = open_.size(); i-- > 0;) {
    if (!open_[i]->transfer) continue;
    cancelled.push_back(std::move(open_[i]->transfer));
    close(*open_[i]);
  }
  closed_.clear();
  busy_ = 0;
  // A callback may submit again: what it submits is cancelled as well.
  while (!pending_.empty() || !cancelled.empty()) {
    for (auto& transfer : std::exchange(cancelled, {})) {
      transfer->abort(ExchangeStatus::kCancelled, "stopped", at);
      transfer->finish();
    }
    std::swap(cancelled, pending_);
  }
}

void Client::wait_for_events() {
  const TimePoint at = now();
  TimePoint wake = next_expiry_check_;
  if (!pending_.empty()) wake = std::min(wake, pending_.front()->scheduled());
  const auto left = std::max(Clock::duration::zero(), wake - at);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = seconds.count(),
                         .tv_nsec = std::chrono::duration_cast<Nanoseconds>(left - seconds).count()};
  std::array<epoll_event, 256> events;
  const int n = ::epoll_pwait2(poll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
  for (int i = 0; i < n; ++i) {
    auto& connection = *static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
    if (connection.fd >= 0) on_event(connection, events[static_cast<size_t>(i)].events);
  }
  closed_.clear();
}

}  // namespace crible::load
