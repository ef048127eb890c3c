#include "server/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <random>

#include "base/log.h"
#include "server/completion_stream.h"
#include "server/routes.h"

namespace crible {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
template <typename T>
using Task = asio::awaitable<T>;

constexpr auto kNoThrow = asio::as_tuple(asio::use_awaitable);
// Of a client that sends its next requests before it has read the answer.
constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr size_t kMaxLingerBytes = 4 << 20;
constexpr std::chrono::seconds kLingerTime{2};
constexpr TimePoint kNever = TimePoint::max();
// What a refused client is told to wait: at least, at most, and while nothing has ended yet to judge by.
constexpr double kShortestRetrySeconds = 1;
constexpr double kLongestRetrySeconds = 600;
constexpr double kUnknownRetrySeconds = 5;

ApiError http_error(int status, std::string message) {
  return {.status = status, .message = std::move(message)};
}

// What the client did wrong, as far as it can still be told.
std::optional<ApiError> parse_failure(error_code code, const HttpLimits& limits, const ServerConfig& config) {
  if (code == http::error::header_limit || code == http::error::buffer_overflow) {
    return http_error(431, fmt::format("the request's header is larger than {} bytes", limits.header_bytes));
  }
  if (code == http::error::body_limit) {
    return http_error(413, fmt::format("the request's body is larger than {} bytes (max-request-bytes)",
                                       config.max_request_bytes));
  }
  const bool gone = code == http::error::end_of_stream || code == http::error::partial_message ||
                    code == beast::error::timeout || code.category() == asio::error::get_system_category() ||
                    code.category() == asio::error::get_misc_category();
  if (gone) return std::nullopt;
  return http_error(400, fmt::format("not a valid HTTP request: {}", code.message()));
}

// "http://host/v1/models?x=1" and "/v1/models?x=1" name "/v1/models".
std::string path_of(std::string_view target) {
  if (target.starts_with("http://")) {
    const size_t slash = target.find('/', 7);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return std::string(target.substr(0, target.find('?')));
}

bool is_json(std::string_view content_type) {
  content_type = content_type.substr(0, content_type.find(';'));
  while (content_type.ends_with(' ')) content_type.remove_suffix(1);
  return content_type.empty() || beast::iequals(content_type, "application/json");
}

std::string new_reply_id(std::string_view prefix) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{}{:016x}{:016x}", prefix, random(), random());
}

// Counts one request under way for as long as it lives.
class ActiveRequest {
 public:
  explicit ActiveRequest(ServerMetrics& metrics) : metrics_(metrics) { metrics_.active_requests += 1; }
  ~ActiveRequest() { metrics_.active_requests -= 1; }
  ActiveRequest(const ActiveRequest&) = delete;
  ActiveRequest& operator=(const ActiveRequest&) = delete;

 private:
  ServerMetrics& metrics_;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, ConnectionHost& host)
      : host_(host),
        context_(host.context),
        stream_(std::move(socket)),
        news_(stream_.get_executor(), kNever) {
    context_.metrics.open_connections += 1;
  }
  ~Connection() { context_.metrics.open_connections -= 1; }

  Task<void> run() {
    const auto self = shared_from_this();
    error_code ignored;
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    while (co_await serve_one()) {
    }
    stream_.socket().close(ignored);
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  Task<bool> serve_one();
  Task<bool> read_first_bytes();
  Task<bool> read_body(Parser& parser);
  std::optional<HttpReply> refuse(const Parser& parser, const Route*& route) const;
  Task<bool> answer(const Route& route, HttpRequest request, bool head_only);
  Task<bool> answer_completion(const Route& route, HttpRequest request);
  Task<bool> answer_whole(CompletionJob& job, const HttpRequest& request, const ReplyIdentity& identity);
  Task<bool> answer_stream(CompletionJob& job, const HttpRequest& request, const ReplyIdentity& identity);
  Task<bool> reply(HttpReply reply, bool keep_alive, bool head_only = false);
  Task<bool> reply_error(const ApiError& error, bool keep_alive);
  Task<bool> refuse_and_close(HttpReply reply, bool head_only = false);
  Task<bool> write(std::string_view bytes);
  Task<bool> write_chunk(std::string_view head, std::string_view bytes, bool chunked, bool last);

  // Runs work on another thread; the coroutine goes on here afterwards.
  template <typename Work>
  Task<std::invoke_result_t<Work>> on_thread(asio::thread_pool& pool, Work work) {
    co_return co_await asio::co_spawn(
        pool, [work = std::move(work)]() mutable -> Task<std::invoke_result_t<Work>> { co_return work(); },
        asio::use_awaitable);
  }

  std::optional<HttpReply> refuse_for_queue() const;
  TimePoint deadline_of(const GenerationOptions& options, TimePoint arrival) const;
  // Until `ready`, the client is gone, or the deadline has ended the job.
  template <typename Ready>
  Task<void> wait_for_job(CompletionJob& job, Ready ready);
  void job_has_news();
  void watch_client();
  void client_readable(error_code code);
  bool keep_alive(const HttpRequest& request) const { return request.keep_alive && !context_.draining; }

  ConnectionHost& host_;
  ServerContext& context_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  asio::steady_timer news_;  // cancelled when the job under way has news; expires at its deadline
  TimePoint deadline_ = kNever;  // of the job under way
  std::shared_ptr<CompletionJob> job_;  // while a completion is being answered
  bool watch_armed_ = false;
  bool client_gone_ = false;
};

Task<bool> Connection::read_first_bytes() {
  if (buffer_.size() > 0) co_return true;
  stream_.expires_after(host_.limits.idle);
  const auto [code, bytes] = co_await stream_.async_read_some(buffer_.prepare(4096), kNoThrow);
  buffer_.commit(bytes);
  co_return !code;
}

Task<bool> Connection::read_body(Parser& parser) {
  if (parser.is_done()) co_return true;
  if (parser.get().find(http::field::expect) != parser.get().end()) {
    if (!co_await write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
  }
  stream_.expires_after(host_.limits.body);
  // What the buffer has room for is read at once; a waiting connection gives the room back.
  constexpr uint64_t kAtOnce = 64 << 10;
  buffer_.reserve(static_cast<size_t>(std::min(parser.content_length_remaining().value_or(0), kAtOnce)));
  const auto [code, bytes] = co_await http::async_read(stream_, buffer_, parser, kNoThrow);
  buffer_.shrink_to_fit();
  if (!code) co_return true;
  if (auto failure = parse_failure(code, host_.limits, context_.config)) {
    HttpReply refusal = error_reply(*failure);
    co_await refuse_and_close(std::move(refusal));
  }
  co_return false;
}

// What can be refused once the header is there, before a body is read for nothing.
std::optional<HttpReply> Connection::refuse(const Parser& parser, const Route*& route) const {
  const auto& header = parser.get();
  const std::string path = path_of(std::string_view(header.target().data(), header.target().size()));
  const auto method = header.method_string();
  const auto found = find_route({method.data(), method.size()}, path);
  const auto authorization = header[http::field::authorization];
  const bool open = found && (*found)->open;
  if (!open && !authorized({authorization.data(), authorization.size()}, context_.config.api_key)) {
    return error_reply({.status = 401,
                        .type = "authentication_error",
                        .message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
                        .code = "invalid_api_key"});
  }
  if (!found) return found.error();
  route = *found;
  const auto expect = header[http::field::expect];
  if (!expect.empty() && !beast::iequals(expect, "100-continue")) {
    return error_reply(http_error(417, "the only expectation this server meets is 100-continue"));
  }
  const auto type = header[http::field::content_type];
  if (route->method == "POST" && !is_json({type.data(), type.size()})) {
    return error_reply(http_error(415, "the body must be JSON; send 'Content-Type: application/json'"));
  }
  return std::nullopt;
}

Task<bool> Connection::serve_one() {
  if (!co_await read_first_bytes()) co_return false;
  Parser parser;
  parser.header_limit(host_.limits.header_bytes);
  parser.body_limit(static_cast<uint64_t>(context_.config.max_request_bytes));
  stream_.expires_after(host_.limits.header);
  const auto [code, bytes] = co_await http::async_read_header(stream_, buffer_, parser, kNoThrow);
  if (code) {
    if (auto failure = parse_failure(code, host_.limits, context_.config)) {
      HttpReply refusal = error_reply(*failure);
      co_await refuse_and_close(std::move(refusal));
    }
    co_return false;
  }
  const ActiveRequest active(context_.metrics);
  const bool head_only = parser.get().method() == http::verb::head;
  const Route* route = nullptr;
  if (auto refusal = refuse(parser, route)) {
    // With no body to skip, the connection can go on.
    if (parser.is_done()) co_return co_await reply(std::move(*refusal), parser.keep_alive(), head_only);
    co_return co_await refuse_and_close(std::move(*refusal), head_only);
  }
  if (!co_await read_body(parser)) co_return false;
  HttpRequest request{.method = std::string(parser.get().method_string()),
                      .path = path_of(std::string_view(parser.get().target().data(), parser.get().target().size())),
                      .keep_alive = parser.keep_alive(),
                      .chunks_understood = parser.get().version() >= 11};
  request.body = std::move(parser.get().body());
  co_return co_await answer(*route, std::move(request), head_only);
}

Task<bool> Connection::answer(const Route& route, HttpRequest request, bool head_only) {
  switch (route.kind) {
    case RouteKind::kCompletion:
    case RouteKind::kChatCompletion: co_return co_await answer_completion(route, std::move(request));
    case RouteKind::kImmediate:
    case RouteKind::kWorker:
    case RouteKind::kAdmin: break;
  }
  const auto work = [&] { return route.answer(context_, request); };
  HttpReply answered;
  if (route.kind == RouteKind::kImmediate) {
    answered = work();
  } else {
    answered = co_await on_thread(route.kind == RouteKind::kAdmin ? host_.admin : host_.worker, work);
  }
  co_return co_await reply(std::move(answered), keep_alive(request), head_only);
}

Task<bool> Connection::answer_completion(const Route& route, HttpRequest request) {
  const TimePoint arrival = now();
  if (context_.draining) {
    const Error error{ErrorCode::kUnavailable, "the server is shutting down; send the request again later"};
    const ApiError api_error = to_api_error(error);
    co_return co_await reply_error(api_error, false);
  }
  if (auto refusal = refuse_for_queue()) {
    HttpReply full = std::move(*refusal);
    co_return co_await reply(std::move(full), keep_alive(request));
  }
  const bool chat = route.kind == RouteKind::kChatCompletion;
  const CompletionKind kind = chat ? CompletionKind::kChat : CompletionKind::kText;
  const auto prepare = [&] { return prepare_completion(kind, request.body, context_.served_model()); };
  ApiResult<PreparedCompletion> prepared;
  if (request.body.size() <= host_.limits.inline_body_bytes) {
    prepared = prepare();
  } else {
    prepared = co_await on_thread(host_.worker, prepare);
  }
  if (!prepared) co_return co_await reply_error(prepared.error(), keep_alive(request));
  request.body = {};
  auto job = std::make_shared<CompletionJob>(context_.engine, context_.inbox, context_.metrics, std::move(*prepared),
                                             context_.text.tokenizer, arrival);
  if (auto started = job->start(); !started) {
    co_return co_await reply_error(started.error(), keep_alive(request));
  }
  job->set_on_news([this] { job_has_news(); });
  job_ = job;
  deadline_ = deadline_of(job->options(), arrival);
  news_.expires_at(deadline_);
  watch_client();
  const ReplyIdentity identity{.id = new_reply_id(chat ? "chatcmpl-" : "cmpl-"),
                               .created = unix_seconds(),
                               .model = context_.model_name,
                               .system_fingerprint = context_.system_fingerprint};
  bool alive = false;
  if (job->options().stream) {
    alive = co_await answer_stream(*job, request, identity);
  } else {
    alive = co_await answer_whole(*job, request, identity);
  }
  job_.reset();
  // The job may outlive this connection; nothing of it may reach back here.
  job->set_on_news(nullptr);
  job->abandon();
  co_return alive && !client_gone_;
}

// Before anything is spent on it: a client that is refused here costs the others nothing.
std::optional<HttpReply> Connection::refuse_for_queue() const {
  const int64_t limit = context_.config.max_waiting_requests;
  const int64_t waiting = limit > 0 ? context_.engine.stats().waiting : 0;
  if (waiting < limit || limit == 0) return std::nullopt;
  context_.metrics.queue_refusals += 1;
  const double seconds = std::clamp(
      context_.metrics.completion_rate.seconds_for(waiting - limit + 1, now()).value_or(kUnknownRetrySeconds),
      kShortestRetrySeconds, kLongestRetrySeconds);
  HttpReply refusal = error_reply({.status = 429,
                                   .type = "rate_limit_error",
                                   .message = fmt::format("{} requests are waiting, the most that may "
                                                          "(max-waiting-requests); send this one again in {:.0f} s",
                                                          waiting, std::ceil(seconds)),
                                   .code = "queue_full"});
  refusal.headers.emplace_back("Retry-After", fmt::format("{:.0f}", std::ceil(seconds)));
  return refusal;
}

TimePoint Connection::deadline_of(const GenerationOptions& options, TimePoint arrival) const {
  double seconds = context_.config.request_timeout_seconds;
  if (options.timeout_seconds > 0 && (seconds == 0 || options.timeout_seconds < seconds)) {
    seconds = options.timeout_seconds;
  }
  if (seconds == 0) return kNever;
  return arrival + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

template <typename Ready>
Task<void> Connection::wait_for_job(CompletionJob& job, Ready ready) {
  while (!client_gone_) {
    if (now() >= deadline_) job.time_out();
    if (ready()) co_return;
    co_await news_.async_wait(kNoThrow);
  }
}

// Text that its reader does not take must not pile up: such a stream is cut off.
void Connection::job_has_news() {
  if (job_->pending_bytes() > host_.limits.unread_bytes) {
    context_.metrics.slow_readers += 1;
    client_gone_ = true;
    job_->abandon();
    stream_.cancel();
  }
  news_.cancel();
}

Task<bool> Connection::answer_whole(CompletionJob& job, const HttpRequest& request,
                                    const ReplyIdentity& identity) {
  co_await wait_for_job(job, [&] { return job.finished(); });
  if (client_gone_) co_return false;
  if (job.error()) co_return co_await reply_error(*job.error(), keep_alive(request));
  HttpReply whole;
  whole.body = completion_body(job.kind(), identity, job.take_choices(), job.usage());
  co_return co_await reply(std::move(whole), keep_alive(request));
}

Task<bool> Connection::answer_stream(CompletionJob& job, const HttpRequest& request,
                                     const ReplyIdentity& identity) {
  co_await wait_for_job(job, [&] { return job.has_news(); });
  if (client_gone_) co_return false;
  // Nothing was sent yet: a failure still has a status of its own.
  if (job.error()) co_return co_await reply_error(*job.error(), keep_alive(request));
  const bool chunked = request.chunks_understood;
  const bool keep = keep_alive(request) && chunked;
  const HttpReply event_stream{.content_type = "text/event-stream; charset=utf-8",
                               .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}};
  context_.metrics.count_response(200);
  std::string head = response_head(event_stream, -1, keep, chunked);
  CompletionStream frames(job, identity);
  std::string bytes;
  while (!frames.ended()) {
    co_await wait_for_job(job, [&] { return job.has_news(); });
    if (client_gone_) co_return false;
    bytes.clear();
    frames.append_pending(bytes);
    if (!co_await write_chunk(head, bytes, chunked, frames.ended())) co_return false;
    head.clear();
  }
  co_return keep && !context_.draining;  // which may have begun since the header was sent
}

Task<bool> Connection::write(std::string_view bytes) {
  stream_.expires_after(host_.limits.write);
  const auto [code, written] = co_await asio::async_write(stream_, asio::buffer(bytes), kNoThrow);
  co_return !code;
}

Task<bool> Connection::write_chunk(std::string_view head, std::string_view bytes, bool chunked, bool last) {
  std::array<char, 24> size_line;
  size_t size_length = 0;
  std::string_view after;
  if (chunked) {
    size_length = static_cast<size_t>(fmt::format_to_n(size_line.data(), size_line.size(), "{:x}\r\n", bytes.size()).size);
    after = last ? "\r\n0\r\n\r\n" : "\r\n";
  }
  const std::array<asio::const_buffer, 4> buffers = {asio::buffer(head), asio::buffer(size_line.data(), size_length),
                                                     asio::buffer(bytes), asio::buffer(after)};
  stream_.expires_after(host_.limits.write);
  const auto [code, written] = co_await asio::async_write(stream_, buffers, kNoThrow);
  co_return !code;
}

Task<bool> Connection::reply(HttpReply reply, bool keep_alive, bool head_only) {
  context_.metrics.count_response(reply.status);
  std::string bytes = response_head(reply, static_cast<int64_t>(reply.body.size()), keep_alive, true);
  if (!head_only) bytes += reply.body;
  co_return co_await write(bytes) && keep_alive;
}

Task<bool> Connection::reply_error(const ApiError& error, bool keep_alive) {
  HttpReply refusal = error_reply(error);
  co_return co_await reply(std::move(refusal), keep_alive);
}

// The client may still be sending. A socket closed over unread bytes resets the connection, and the
// reply is lost with it; so what comes is read, for a while, and thrown away.
Task<bool> Connection::refuse_and_close(HttpReply refusal, bool head_only) {
  co_await reply(std::move(refusal), false, head_only);
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(kLingerTime);
  std::array<char, 16 << 10> thrown_away;
  for (size_t total = 0; total < kMaxLingerBytes;) {
    const auto [code, bytes] = co_await stream_.async_read_some(asio::buffer(thrown_away), kNoThrow);
    if (code) break;
    total += bytes;
  }
  co_return false;
}

void Connection::watch_client() {
  if (watch_armed_) return;
  watch_armed_ = true;
  stream_.socket().async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code code) {
    self->watch_armed_ = false;
    self->client_readable(code);
  });
}

// Readable while an answer is under way: the client has closed, or sends its next request early.
void Connection::client_readable(error_code code) {
  if (!job_) return;  // between answers whoever reads the next request finds out
  bool gone = static_cast<bool>(code);
  if (!gone) {
    const auto space = buffer_.prepare(4096);
    const ssize_t got = ::recv(stream_.socket().native_handle(), space.data(), space.size(), MSG_DONTWAIT);
    if (got > 0) buffer_.commit(static_cast<size_t>(got));
    gone = got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
  }
  if (gone) {
    client_gone_ = true;
    job_->abandon();
    news_.cancel();
  } else if (buffer_.size() < kMaxPipelinedBytes) {
    watch_client();
  }
}

}  // namespace

void serve_connection(tcp::socket socket, ConnectionHost& host) {
  const auto executor = socket.get_executor();
  auto connection = std::make_shared<Connection>(std::move(socket), host);
  asio::co_spawn(executor, [connection] { return connection->run(); }, [](const std::exception_ptr& failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      log_error("a connection was closed on an unexpected failure: {}", e.what());
    }
  });
}

}  // namespace crible
