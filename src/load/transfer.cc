#include "load/transfer.h"

namespace crible::load {
namespace {

constexpr size_t kMaxErrorBody = 64 << 10;
constexpr size_t kMaxReserved = 1 << 16;

}  // namespace

const char* exchange_status_name(ExchangeStatus status) {
  switch (status) {
    case ExchangeStatus::kOk: return "ok";
    case ExchangeStatus::kConnectFailed: return "connect_failed";
    case ExchangeStatus::kHttpError: return "http_error";
    case ExchangeStatus::kBrokenStream: return "broken_stream";
    case ExchangeStatus::kTimedOut: return "timed_out";
    case ExchangeStatus::kCancelled: return "cancelled";
  }
  return "unknown";
}

Transfer::Transfer(Request request, std::string bytes, TimePoint scheduled, Done done)
    : request_(std::move(request)), bytes_(std::move(bytes)), done_(std::move(done)) {
  exchange_.scheduled = scheduled;
  exchange_.tokens.reserve(std::min<size_t>(kMaxReserved, static_cast<size_t>(request_.expected_tokens)));
}

void Transfer::on_sent(size_t bytes, TimePoint at) {
  if (!exchange_.sent) exchange_.sent = at;
  sent_bytes_ += bytes;
}

void Transfer::rewind() {
  sent_bytes_ = 0;
  exchange_.sent.reset();
}

bool Transfer::end(ExchangeStatus status, std::string message, TimePoint at) {
  exchange_.status = status;
  exchange_.error = std::move(message);
  exchange_.ended = at;
  return true;
}

void Transfer::abort(ExchangeStatus status, std::string message, TimePoint at) {
  end(status, std::move(message), at);
}

bool Transfer::on_data(std::string_view data, TimePoint at) {
  while (!data.empty()) {
    std::string_view body;
    const auto taken = reader_.advance(data, body);
    if (!taken) return end(ExchangeStatus::kBrokenStream, taken.error().message, at);
    exchange_.http_code = reader_.code();
    data.remove_prefix(*taken);
    if (!body.empty() && take_body(body, at)) return true;
    if (reader_.done()) {
      if (!data.empty()) return end(ExchangeStatus::kBrokenStream, "bytes after the end of the answer", at);
      return end_of_message(at);
    }
  }
  return false;
}

bool Transfer::on_close(TimePoint at) {
  const Status complete = reader_.finish();
  exchange_.http_code = reader_.code();
  if (complete) return end_of_message(at);
  return end(answered() ? ExchangeStatus::kBrokenStream : ExchangeStatus::kConnectFailed,
             complete.error().message, at);
}

bool Transfer::take_body(std::string_view body, TimePoint at) {
  if (reader_.code() != 200 || !reader_.is_event_stream()) {
    error_body_.append(body.substr(0, kMaxErrorBody - std::min(kMaxErrorBody, error_body_.size())));
    return false;
  }
  events_.feed(body);
  SseEvent event;
  while (true) {
    const auto more = events_.next(event);
    if (!more) return end(ExchangeStatus::kBrokenStream, more.error().message, at);
    if (!*more) return false;
    if (take_frame(event.data, at)) return true;
  }
}

bool Transfer::take_frame(std::string_view data, TimePoint at) {
  if (data == "[DONE]") {
    saw_done_ = true;
    return false;
  }
  auto frame = read_completion_frame(data, request_.keep_text ? &exchange_.text : nullptr);
  if (!frame) {
    return end(ExchangeStatus::kBrokenStream,
               fmt::format("{}: {}", frame.error().message, data.substr(0, 120)), at);
  }
  if (!frame->error.empty()) return end(ExchangeStatus::kBrokenStream, std::move(frame->error), at);
  if (frame->has_token) exchange_.tokens.push_back(at);
  if (frame->has_output && !exchange_.first_output) exchange_.first_output = at;
  if (!frame->finish_reason.empty()) exchange_.finish_reason = frame->finish_reason;
  if (frame->usage) exchange_.usage = frame->usage;
  return false;
}

bool Transfer::end_of_message(TimePoint at) {
  if (reader_.code() != 200) return end(ExchangeStatus::kHttpError, error_message(error_body_), at);
  if (!reader_.is_event_stream()) {
    return end(ExchangeStatus::kHttpError, "the answer is not an event stream: " + error_message(error_body_),
               at);
  }
  if (!saw_done_) return end(ExchangeStatus::kBrokenStream, "the stream ended without [DONE]", at);
  return end(ExchangeStatus::kOk, {}, at);
}

}  // namespace crible::load
