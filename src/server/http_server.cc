#include "server/http_server.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "base/log.h"
#include "server/connection.h"

namespace crible {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);

// How long clients get, once everything was cancelled, to take their last frame.
constexpr std::chrono::seconds kLastFrameTime{2};
constexpr std::chrono::milliseconds kDrainPoll{10};

std::string served_name(const ServerConfig& config, const EngineDescription& description) {
  if (!config.served_model_name.empty()) return config.served_model_name;
  return std::filesystem::path(description.model.path).stem().string();
}

// Changes with whatever may change the tokens that a request gets.
std::string fingerprint(const EngineDescription& description) {
  const EngineModelInfo& model = description.model;
  const size_t hash = std::hash<std::string>{}(fmt::format("{} {} {} {} {}", model.architecture, model.quantization,
                                                           model.parameters, model.weight_bytes,
                                                           description.resolved.config.kv_cache_dtype));
  return fmt::format("fp_{:012x}", hash & 0xFFFFFFFFFFFF);
}

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// Each connection takes a descriptor; the soft limit that a shell hands down is often 1024.
void raise_descriptor_limit(int64_t connections) {
  constexpr int64_t kOthers = 256;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const auto wanted = static_cast<rlim_t>(connections + kOthers);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
    log_info("the system allows {} open files: connections beyond that wait", limit.rlim_cur);
  }
}

}  // namespace

HttpLimits http_limits(const ServerConfig& config) {
  return {.idle = milliseconds_of(config.keep_alive_timeout_seconds),
          .header = milliseconds_of(config.header_timeout_seconds),
          .body = milliseconds_of(config.body_timeout_seconds),
          .write = milliseconds_of(config.write_timeout_seconds),
          .connections = config.max_connections,
          .unread_bytes = static_cast<size_t>(config.max_unread_bytes)};
}

class HttpServer::Impl {
 public:
  Impl(const ServerConfig& config, const HttpLimits& limits)
      : config_(config), limits_(limits), acceptor_(io_), signals_(io_) {}
  ~Impl() { stop(); }

  Status bind();
  Status start(EngineService& engine, const TextModel& text, GpuWatch gpus);
  void drain_on_signals() {
    signals_.add(SIGTERM);
    signals_.add(SIGINT);
    asio::co_spawn(io_, wait_for_signals(), asio::detached);
  }
  void begin_drain() {
    asio::post(io_, [this] {
      if (!context_->draining.exchange(true)) asio::co_spawn(io_, drain(), asio::detached);
    });
  }
  void wait() {
    if (io_thread_.joinable()) io_thread_.join();
  }
  void stop() {
    if (context_) context_->engine.stop();
    io_.stop();
    wait();
    worker_.join();
    admin_.join();
  }
  uint16_t port() const { return port_; }

 private:
  asio::awaitable<void> accept_connections();
  asio::awaitable<void> wait_for_signals();
  asio::awaitable<void> drain();
  asio::awaitable<void> wait_until_idle(TimePoint deadline);

  const ServerConfig config_;
  const HttpLimits limits_;
  uint16_t port_ = 0;
  std::unique_ptr<ServerContext> context_;  // outlives what io_ still holds when it goes
  std::unique_ptr<ConnectionHost> host_;
  asio::thread_pool worker_{1};
  asio::thread_pool admin_{1};
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  asio::signal_set signals_;
  std::thread io_thread_;
};

Status HttpServer::Impl::bind() {
  error_code code;
  const auto found = tcp::resolver(io_).resolve(config_.host, std::to_string(config_.port),
                                                tcp::resolver::passive | tcp::resolver::numeric_service, code);
  if (code || found.empty()) {
    return fail(ErrorCode::kInvalidArgument, "host '{}' is no address of this machine: {}; use 127.0.0.1, or 0.0.0.0 "
                "for all", config_.host, code.message());
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor_.open(endpoint.protocol(), code);
  if (!code) acceptor_.set_option(asio::socket_base::reuse_address(true), code);
  if (!code) acceptor_.bind(endpoint, code);
  if (code) {
    return fail(ErrorCode::kUnavailable, "cannot use port {} on {}: {}; choose another with --port, or end what uses it",
                config_.port, config_.host, code.message());
  }
  port_ = acceptor_.local_endpoint(code).port();
  return {};
}

Status HttpServer::Impl::start(EngineService& engine, const TextModel& text, GpuWatch gpus) {
  context_ = std::make_unique<ServerContext>(engine, text, config_, [this] {
    asio::post(io_, [this] { context_->inbox.drain(); });
  });
  const EngineDescription description = engine.describe();
  context_->model_name = served_name(config_, description);
  context_->system_fingerprint = fingerprint(description);
  context_->started_unix = unix_seconds();
  context_->device_name = gpus.device_name();
  context_->gpus = std::move(gpus);
  host_ = std::make_unique<ConnectionHost>(ConnectionHost{*context_, limits_, worker_, admin_});
  error_code code;
  acceptor_.listen(asio::socket_base::max_listen_connections, code);
  if (code) {
    return fail(ErrorCode::kUnavailable, "cannot listen on port {} of {}: {}; choose another with --port, or end what "
                "uses it", port_, config_.host, code.message());
  }
  raise_descriptor_limit(limits_.connections);
  asio::co_spawn(io_, accept_connections(), asio::detached);
  io_thread_ = std::thread([this] { io_.run(); });
  return {};
}

asio::awaitable<void> HttpServer::Impl::accept_connections() {
  asio::steady_timer pause(io_);
  while (true) {
    // Above the limit, and when the system is out of descriptors, clients wait in the kernel's queue.
    if (context_->metrics.open_connections < limits_.connections) {
      auto [code, socket] = co_await acceptor_.async_accept(kNoThrow);
      if (!code) {
        serve_connection(std::move(socket), *host_);
        continue;
      }
      if (code == asio::error::operation_aborted) co_return;
      log_warning("cannot accept a connection: {}", code.message());
    }
    pause.expires_after(std::chrono::milliseconds(50));
    co_await pause.async_wait(kNoThrow);
  }
}

asio::awaitable<void> HttpServer::Impl::wait_for_signals() {
  while (true) {
    const auto [code, number] = co_await signals_.async_wait(kNoThrow);
    if (code) co_return;
    if (context_->draining) {
      log_warning("second signal: ending at once");
      std::_Exit(1);
    }
    begin_drain();
  }
}

asio::awaitable<void> HttpServer::Impl::wait_until_idle(TimePoint deadline) {
  asio::steady_timer pause(io_);
  while (context_->metrics.active_requests > 0 && now() < deadline) {
    pause.expires_after(kDrainPoll);
    co_await pause.async_wait(kNoThrow);
  }
}

asio::awaitable<void> HttpServer::Impl::drain() {
  const auto time_out = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(config_.drain_timeout_seconds));
  log_info("shutting down: {} requests under way get up to {} s", context_->metrics.active_requests,
           config_.drain_timeout_seconds);
  co_await wait_until_idle(now() + time_out);
  if (context_->metrics.active_requests > 0) {
    log_warning("drain time-out: ending {} requests", context_->metrics.active_requests);
    asio::post(admin_, [this] { context_->engine.stop(); });
    co_await wait_until_idle(now() + kLastFrameTime);
  }
  io_.stop();
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::bind(const ServerConfig& config, const HttpLimits& limits) {
  auto impl = std::make_unique<Impl>(config, limits);
  CRIBLE_RETURN_IF_ERROR(impl->bind());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

uint16_t HttpServer::port() const { return impl_->port(); }
Status HttpServer::start(EngineService& engine, const TextModel& text, GpuWatch gpus) {
  return impl_->start(engine, text, std::move(gpus));
}
void HttpServer::drain_on_signals() { impl_->drain_on_signals(); }
void HttpServer::begin_drain() { impl_->begin_drain(); }
void HttpServer::wait() { impl_->wait(); }
void HttpServer::stop() { impl_->stop(); }

}  // namespace crible
