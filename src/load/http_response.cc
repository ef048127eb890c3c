#include "load/http_response.h"

#include <strings.h>

#include <algorithm>
#include <charconv>

namespace crible::load {
namespace {

constexpr size_t kMaxHeadBytes = 64 << 10;
constexpr size_t kMaxLineBytes = 4 << 10;

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool contains_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (same_word(trim(list.substr(0, comma)), word)) return true;
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return false;
}

}  // namespace

Result<size_t> HttpResponseReader::advance(std::string_view data, std::string_view& body) {
  body = {};
  if (data.empty() || done()) return 0;
  started_ = true;
  switch (state_) {
    case State::kHead: {
      // The blank line may be split between two reads: look for it in the joined text.
      const size_t before = line_.size();
      line_.append(data.substr(0, kMaxHeadBytes));
      const size_t end = line_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
      if (end == std::string::npos) {
        if (line_.size() > kMaxHeadBytes)
          return fail(ErrorCode::kCorrupt, "the response's head is over 64 KiB");
        return line_.size() - before;
      }
      const size_t taken = end + 4 - before;
      line_.resize(end + 2);
      CRIBLE_RETURN_IF_ERROR(read_head());
      line_.clear();
      return taken;
    }
    case State::kBody: {
      const size_t taken =
          framing_ == Framing::kUntilClose ? data.size() : std::min<uint64_t>(data.size(), remaining_);
      body = data.substr(0, taken);
      if (framing_ == Framing::kLength && (remaining_ -= taken) == 0) state_ = State::kDone;
      return taken;
    }
    case State::kChunkData: {
      const size_t taken = std::min<uint64_t>(data.size(), remaining_);
      body = data.substr(0, taken);
      if ((remaining_ -= taken) == 0) state_ = State::kChunkEnd;
      return taken;
    }
    default: {
      const size_t newline = data.find('\n');
      if (newline == std::string_view::npos) {
        line_.append(data);
        if (line_.size() > kMaxLineBytes)
          return fail(ErrorCode::kCorrupt, "a chunk's size line is over 4 KiB");
        return data.size();
      }
      line_.append(data.substr(0, newline));
      CRIBLE_RETURN_IF_ERROR(end_chunk_line());
      line_.clear();
      return newline + 1;
    }
  }
}

Status HttpResponseReader::end_chunk_line() {
  const std::string_view line = trim(line_);
  if (state_ == State::kChunkEnd) {
    if (!line.empty()) return fail(ErrorCode::kCorrupt, "bytes after the end of a chunk");
    state_ = State::kChunkSize;
    return {};
  }
  if (state_ == State::kTrailer) {
    if (line.empty()) state_ = State::kDone;
    return {};
  }
  const std::string_view digits = trim(line.substr(0, line.find(';')));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), remaining_, 16);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) {
    return fail(ErrorCode::kCorrupt, "'{}' is not a chunk size", digits.substr(0, 40));
  }
  state_ = remaining_ == 0 ? State::kTrailer : State::kChunkData;
  return {};
}

Status HttpResponseReader::read_head() {
  std::string_view rest = line_;
  const size_t first_end = rest.find("\r\n");
  const std::string_view status = rest.substr(0, first_end);
  rest.remove_prefix(first_end + 2);
  const bool shaped = status.size() >= 12 && status.starts_with("HTTP/1.") && status[8] == ' ';
  int code = 0;
  if (!shaped || std::from_chars(status.data() + 9, status.data() + 12, code).ptr != status.data() + 12) {
    return fail(ErrorCode::kCorrupt, "'{}' is not an HTTP/1.x status line", status.substr(0, 60));
  }
  const bool interim = code >= 100 && code < 200;
  if (interim) {
    state_ = State::kHead;
    return {};
  }
  code_ = code;
  keep_alive_ = status[7] != '0';
  state_ = State::kBody;
  while (!rest.empty()) {
    const size_t end = rest.find("\r\n");
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 2);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos)
      return fail(ErrorCode::kCorrupt, "'{}' is not a header", line.substr(0, 60));
    CRIBLE_RETURN_IF_ERROR(read_header(line.substr(0, colon), trim(line.substr(colon + 1))));
  }
  if (code_ == 204 || code_ == 304) state_ = State::kDone;
  if (framing_ == Framing::kLength && remaining_ == 0) state_ = State::kDone;
  if (framing_ == Framing::kChunked && state_ == State::kBody) state_ = State::kChunkSize;
  return {};
}

Status HttpResponseReader::read_header(std::string_view name, std::string_view value) {
  if (same_word(name, "content-length")) {
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), remaining_);
    if (value.empty() || error != std::errc() || end != value.data() + value.size()) {
      return fail(ErrorCode::kCorrupt, "'{}' is not a content length", value.substr(0, 40));
    }
    // Chunked framing overrides a length (RFC 9112, 6.3).
    if (framing_ == Framing::kUntilClose) framing_ = Framing::kLength;
  } else if (same_word(name, "transfer-encoding")) {
    if (!contains_word(value, "chunked")) {
      return fail(ErrorCode::kUnsupported, "transfer encoding '{}' is not supported", value.substr(0, 40));
    }
    framing_ = Framing::kChunked;
  } else if (same_word(name, "connection")) {
    if (contains_word(value, "close")) keep_alive_ = false;
    if (contains_word(value, "keep-alive")) keep_alive_ = true;
  } else if (same_word(name, "content-type")) {
    event_stream_ = same_word(trim(value.substr(0, value.find(';'))), "text/event-stream");
  }
  return {};
}

Status HttpResponseReader::finish() {
  if (done()) return {};
  if (state_ == State::kBody && framing_ == Framing::kUntilClose) {
    state_ = State::kDone;
    return {};
  }
  if (!started_) return fail(ErrorCode::kUnavailable, "the connection was closed before any answer");
  return fail(ErrorCode::kCorrupt, "the connection was closed in the middle of the answer");
}

}  // namespace crible::load
