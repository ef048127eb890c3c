// For this room's tests: a server over the fake engine in the same process, and a blocking client
// that can send anything at all, well-formed or not.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "engine/fake_engine.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "text/text_model.h"

namespace crible {

inline const TextModel& default_text_model() {
  static const TextModel model = [] {
    auto loaded = load_text_model(CRIBLE_SOURCE_DIR "/models/default.gguf");
    EXPECT_TRUE(loaded.has_value()) << (loaded ? "" : loaded.error().message);
    return std::move(*loaded);
  }();
  return model;
}

struct TestServerOptions {
  FakeEngineOptions engine;
  ServerConfig config;
  HttpLimits limits;
  GpuWatch gpus;
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = {}) : TestServer(std::move(options), nullptr) {}
  TestServer(TestServerOptions options, std::unique_ptr<EngineService> started)
      : engine(started ? std::move(started) : fake_engine(std::move(options.engine))) {
    options.config.port = 0;
    if (options.config.served_model_name.empty()) options.config.served_model_name = "fake";
    auto bound = HttpServer::bind(options.config, options.limits);
    EXPECT_TRUE(bound.has_value());
    server = std::move(*bound);
    EXPECT_TRUE(server->start(*engine, default_text_model(), std::move(options.gpus)).has_value());
  }
  uint16_t port() const { return server->port(); }

  static std::unique_ptr<EngineService> fake_engine(FakeEngineOptions options) {
    auto started = start_fake_engine(std::move(options));
    EXPECT_TRUE(started.has_value()) << (started ? "" : started.error().message);
    return std::move(*started);
  }

  std::unique_ptr<EngineService> engine;
  std::unique_ptr<HttpServer> server;
};

struct Response {
  int status = 0;  // 0: the connection ended before a whole response
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;                            // chunks joined
  nlohmann::json json() const { return nlohmann::json::parse(body, nullptr, false); }
  std::string error_message() const { return json().value("/error/message"_json_pointer, std::string()); }
};

class TestClient {
 public:
  explicit TestClient(uint16_t port) : socket_(io_) {
    socket_.connect({boost::asio::ip::address_v4::loopback(), port});
    socket_.set_option(boost::asio::ip::tcp::no_delay(true));
  }

  void send(std::string_view bytes) {
    boost::system::error_code ignored;
    boost::asio::write(socket_, boost::asio::buffer(bytes), ignored);
  }
  void send_request(std::string_view method, std::string_view path, std::string_view body = {},
                    std::string_view more_headers = {}) {
    std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: test\r\n{}", method, path, more_headers);
    if (!body.empty()) {
      request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    }
    send(request + "\r\n" + std::string(body));
  }
  Response request(std::string_view method, std::string_view path, std::string_view body = {},
                   std::string_view more_headers = {}) {
    send_request(method, path, body, more_headers);
    return read_response(method == "HEAD");
  }
  Response post(std::string_view path, const nlohmann::json& body) { return request("POST", path, body.dump()); }

  Response read_response(bool head_only = false) {
    Response response;
    std::string line = read_line();
    if (line.size() < 12) return response;
    const int status = std::stoi(line.substr(9, 3));
    while (!(line = read_line()).empty()) {
      const size_t colon = line.find(':');
      std::string name = line.substr(0, colon);
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      response.headers[name] = line.substr(std::min(line.size(), colon + 2));
    }
    if (status == 100) return read_response(head_only);
    if (!head_only && !read_body(response)) return response;
    response.status = status;
    return response;
  }

  // Some bytes as they come; empty at the end of the stream.
  std::string read_some() {
    if (!buffered_.empty()) return std::exchange(buffered_, {});
    char bytes[4096];
    boost::system::error_code code;
    const size_t n = socket_.read_some(boost::asio::buffer(bytes), code);
    return std::string(bytes, n);
  }
  // Closes with a reset, as a killed client does when data is still under way.
  void reset() {
    socket_.set_option(boost::asio::socket_base::linger(true, 0));
    socket_.close();
  }
  void close() { socket_.close(); }
  // Whether something can be read within the time.
  bool readable_within(int milliseconds) {
    pollfd poll{.fd = socket_.native_handle(), .events = POLLIN, .revents = 0};
    return !buffered_.empty() || ::poll(&poll, 1, milliseconds) > 0;
  }
  boost::asio::ip::tcp::socket& socket() { return socket_; }

 private:
  bool fill() {
    const std::string more = [this] {
      char bytes[1 << 16];
      boost::system::error_code code;
      const size_t n = socket_.read_some(boost::asio::buffer(bytes), code);
      return std::string(bytes, n);
    }();
    buffered_ += more;
    return !more.empty();
  }
  std::string read_line() {
    size_t end;
    while ((end = buffered_.find("\r\n")) == std::string::npos) {
      if (!fill()) return {};
    }
    std::string line = buffered_.substr(0, end);
    buffered_.erase(0, end + 2);
    return line;
  }
  bool read_exactly(size_t n, std::string& out) {
    while (buffered_.size() < n) {
      if (!fill()) return false;
    }
    out += buffered_.substr(0, n);
    buffered_.erase(0, n);
    return true;
  }
  bool read_body(Response& response) {
    if (response.headers.contains("content-length")) {
      return read_exactly(std::stoul(response.headers["content-length"]), response.body);
    }
    if (response.headers.contains("transfer-encoding")) {
      while (true) {
        const std::string size_line = read_line();
        if (size_line.empty()) return false;
        const size_t size = std::stoul(size_line, nullptr, 16);
        if (!read_exactly(size, response.body)) return false;
        if (!read_line().empty()) return false;
        if (size == 0) return true;
      }
    }
    if (response.headers.contains("content-type")) {
      while (fill()) {
      }
      response.body = std::exchange(buffered_, {});
    }
    return true;
  }

  boost::asio::io_context io_;
  boost::asio::ip::tcp::socket socket_;
  std::string buffered_;
};

// The data of every event of a body.
inline std::vector<std::string> events_of(const std::string& body) {
  std::vector<std::string> events;
  size_t from = 0;
  while (from < body.size()) {
    const size_t end = body.find("\n\n", from);
    EXPECT_NE(end, std::string::npos);
    EXPECT_EQ(body.substr(from, 6), "data: ");
    events.push_back(body.substr(from + 6, end - from - 6));
    from = end + 2;
  }
  return events;
}

// Waits, within a generous bound, for something that another thread is about to make true.
template <typename Condition>
bool eventually(Condition condition) {
  const TimePoint deadline = now() + std::chrono::seconds(20);
  while (!condition()) {
    if (now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// A figure of /metrics, by name and, when it has more labels than the model's, one of them.
inline double metric(uint16_t port, const std::string& name, const std::string& label = {}) {
  const std::string text = TestClient(port).request("GET", "/metrics").body;
  size_t from = 0;
  while (from < text.size()) {
    const size_t end = text.find('\n', from);
    const std::string line = text.substr(from, end - from);
    from = end + 1;
    if (line.starts_with(name + "{") && line.find(label) != std::string::npos) {
      return std::stod(line.substr(line.rfind(' ') + 1));
    }
  }
  ADD_FAILURE() << "no metric " << name << " " << label;
  return -1;
}

}  // namespace crible
