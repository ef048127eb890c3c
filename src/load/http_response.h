// Incremental reader of one HTTP/1.1 response (RFC 9112): status line, headers, and a body framed by
// length, by chunks, or by the end of the connection. Interim 1xx responses are skipped. Allocates
// for the head only; body bytes are handed out as views of the input.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible::load {

class HttpResponseReader {
 public:
  // Takes some of `data` and returns how many bytes it took (at least one unless done() or data is
  // empty). `body` is set to the part of them that belongs to the body, possibly none.
  Result<size_t> advance(std::string_view data, std::string_view& body);
  // The peer has closed the connection: fine if nothing is missing.
  Status finish();

  bool started() const { return started_; }
  bool has_head() const { return state_ != State::kHead; }
  bool done() const { return state_ == State::kDone; }
  int code() const { return code_; }
  bool is_event_stream() const { return event_stream_; }
  // The connection may carry another request once done().
  bool keep_alive() const { return keep_alive_ && framing_ != Framing::kUntilClose; }

 private:
  enum class State { kHead, kBody, kChunkSize, kChunkData, kChunkEnd, kTrailer, kDone };
  enum class Framing { kLength, kChunked, kUntilClose };

  Status read_head();
  Status read_header(std::string_view name, std::string_view value);
  Status end_chunk_line();

  State state_ = State::kHead;
  Framing framing_ = Framing::kUntilClose;
  std::string line_;        // the head, a chunk-size line or a trailer line as far as it has come
  uint64_t remaining_ = 0;  // bytes of the body or of the chunk
  int code_ = 0;
  bool started_ = false;
  bool keep_alive_ = true;
  bool event_stream_ = false;
};

}  // namespace crible::load
