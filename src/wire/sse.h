// Server-sent events (WHATWG HTML, section 9.2), both directions. The parser takes a stream in pieces
// cut anywhere and gives events as views, without a copy where an event lies in one piece.
// It reads `data` and `event`; `id` and `retry`, which serve reconnection, are skipped.
// Not thread-safe: one stream, one parser.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible {

struct SseEvent {
  std::string_view data;  // lines joined by \n; valid until the parser is used again
  std::string_view name;  // empty: "message"
};

class SseParser {
 public:
  // An event, or a line of one, larger than this is kResourceExhausted.
  explicit SseParser(size_t max_event_bytes = size_t{16} << 20) : max_event_bytes_(max_event_bytes) {}

  // The piece must stay valid until next() has answered false.
  void feed(std::string_view piece);
  // True: `event` is the next one. False: the piece is used up. After an error the stream is lost.
  Result<bool> next(SseEvent& event);
  // Whether the stream, should it end here, ends inside an event.
  bool inside_event() const { return has_data_ || !partial_line_.empty(); }

 private:
  // Takes the next whole line; false when the piece holds no further line end.
  bool take_line(std::string_view& line);
  size_t find_line_end();
  void take_field(std::string_view line);
  void add_data(std::string_view value);
  void keep_rest();

  size_t max_event_bytes_;
  std::string_view piece_;
  size_t position_ = 0;
  // Next line feed and carriage return at or after position_, found once: a piece is searched once
  // for each whatever it holds.
  size_t next_lf_ = 0;
  size_t next_cr_ = 0;
  std::string partial_line_;    // a line begun in earlier pieces
  bool line_joined_ = false;    // the line under work lies in partial_line_
  bool skip_lf_ = false;        // the last line ended with \r: a \n here belongs to it
  bool at_start_ = true;        // a byte order mark may stand here
  bool delivered_ = false;      // the event under data_ and name_ was handed out
  bool has_data_ = false;
  std::string_view data_view_;  // the only data line so far, when it lies in the piece
  std::string data_;            // else the lines, joined
  std::string name_;
};

// Appends one event that carries `data`; every line of it becomes a data line.
void append_sse_event(std::string& out, std::string_view data);

// What ends a stream of the OpenAI protocol.
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

}  // namespace crible
