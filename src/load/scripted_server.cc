#include "load/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace crible::load {

void ScriptedConnection::send(std::string_view bytes) {
  while (open_ && !bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      open_ = false;
    } else {
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
}

void ScriptedConnection::reply(int code, std::string_view body, std::string_view content_type) {
  send(fmt::format("HTTP/1.1 {} Scripted\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", code,
                   content_type, body.size(), body));
}

void ScriptedConnection::begin_stream() {
  send(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
}

void ScriptedConnection::frame(std::string_view data) {
  send(fmt::format("{:x}\r\ndata: {}\n\n\r\n", data.size() + 8, data));
}

void ScriptedConnection::end_stream() {
  frame("[DONE]");
  send("0\r\n\r\n");
}

void ScriptedConnection::reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  open_ = false;
}

Result<std::unique_ptr<ScriptedServer>> ScriptedServer::start(Handler handler) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || ::bind(listener, generic, length) != 0 || ::listen(listener, 1024) != 0 ||
      ::getsockname(listener, generic, &length) != 0) {
    const int code = errno;
    if (listener >= 0) ::close(listener);
    return fail(ErrorCode::kIo, "cannot listen on 127.0.0.1: {}", std::strerror(code));
  }
  return std::unique_ptr<ScriptedServer>(
      new ScriptedServer(listener, ntohs(address.sin_port), std::move(handler)));
}

ScriptedServer::ScriptedServer(int listener, uint16_t port, Handler handler)
    : listener_(listener), port_(port), handler_(std::move(handler)), acceptor_([this] { accept_loop(); }) {}

ScriptedServer::~ScriptedServer() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  for (auto& thread : threads_) thread.join();
  ::close(listener_);
}

void ScriptedServer::accept_loop() {
  while (true) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int one = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      ::close(fd);
      return;
    }
    ++connections_;
    open_.push_back(fd);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void ScriptedServer::serve(int fd) {
  ScriptedConnection connection(fd);
  std::string received;
  std::array<char, 64 << 10> buffer;
  const auto receive = [&] {
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n > 0) received.append(buffer.data(), static_cast<size_t>(n));
    return n > 0;
  };
  for (int on_connection = 0; connection.open(); ++on_connection) {
    size_t head_end;
    while ((head_end = received.find("\r\n\r\n")) == std::string::npos && receive()) {
    }
    if (head_end == std::string::npos) break;
    ReceivedRequest request{
        .head = received.substr(0, head_end + 2), .number = requests_++, .on_connection = on_connection};
    const size_t space = request.head.find(' ');
    request.method = request.head.substr(0, space);
    request.path = request.head.substr(space + 1, request.head.find(' ', space + 1) - space - 1);
    size_t body_bytes = 0;
    constexpr std::string_view kLength = "Content-Length: ";
    if (const size_t at = request.head.find(kLength); at != std::string::npos) {
      std::from_chars(request.head.data() + at + kLength.size(), request.head.data() + request.head.size(),
                      body_bytes);
    }
    const size_t whole = head_end + 4 + body_bytes;
    while (received.size() < whole && receive()) {
    }
    if (received.size() < whole) break;
    request.body = received.substr(head_end + 4, body_bytes);
    received.erase(0, whole);
    handler_(request, connection);
  }
  const std::lock_guard lock(mutex_);
  std::erase(open_, fd);
  ::close(fd);
}

void play_completion(ScriptedConnection& connection, int tokens, int prompt_tokens, int cached_tokens) {
  connection.begin_stream();
  connection.frame(
      R"({"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]})");
  for (int i = 0; i < tokens; ++i) {
    connection.frame(R"({"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]})");
  }
  connection.frame(R"({"choices":[{"index":0,"delta":{},"finish_reason":"length"}]})");
  connection.frame(fmt::format(
      R"({{"choices":[],"usage":{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}}}})",
      prompt_tokens, tokens, prompt_tokens + tokens, cached_tokens));
  connection.end_stream();
}

}  // namespace crible::load
