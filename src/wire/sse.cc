#include "wire/sse.h"

#include <algorithm>

namespace crible {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

void SseParser::feed(std::string_view piece) {
  piece_ = piece;
  position_ = 0;
  next_lf_ = std::min(piece.find('\n'), piece.size());
  next_cr_ = std::min(piece.find('\r'), piece.size());
}

size_t SseParser::find_line_end() {
  if (next_lf_ < position_) next_lf_ = std::min(piece_.find('\n', position_), piece_.size());
  if (next_cr_ < position_) next_cr_ = std::min(piece_.find('\r', position_), piece_.size());
  return std::min(next_lf_, next_cr_);
}

bool SseParser::take_line(std::string_view& line) {
  if (skip_lf_ && position_ < piece_.size()) {
    if (piece_[position_] == '\n') ++position_;
    skip_lf_ = false;
  }
  const size_t end = find_line_end();
  if (end == piece_.size()) return false;
  line = piece_.substr(position_, end - position_);
  skip_lf_ = piece_[end] == '\r';
  position_ = end + 1;
  line_joined_ = !partial_line_.empty();
  if (line_joined_) {
    partial_line_ += line;
    line = partial_line_;
  }
  return true;
}

void SseParser::add_data(std::string_view value) {
  if (!has_data_) {
    has_data_ = true;
    if (line_joined_) {
      data_ = value;
    } else {
      data_view_ = value;
    }
    return;
  }
  if (data_view_.data() != nullptr) {
    data_ = data_view_;
    data_view_ = {};
  }
  data_ += '\n';
  data_ += value;
}

void SseParser::take_field(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == 0) return;  // a comment
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  // An empty value must not look like "no view" in add_data.
  if (value.data() == nullptr) value = std::string_view("", 0);
  if (field == "data") {
    add_data(value);
  } else if (field == "event") {
    name_ = value;
  }
}

// The piece is about to become invalid: what an unfinished event needs of it is copied.
void SseParser::keep_rest() {
  partial_line_ += piece_.substr(position_);
  position_ = piece_.size();
  if (data_view_.data() != nullptr) {
    data_ = data_view_;
    data_view_ = {};
  }
}

Result<bool> SseParser::next(SseEvent& event) {
  if (delivered_) {
    delivered_ = has_data_ = false;
    data_view_ = {};
    data_.clear();
    name_.clear();
  }
  std::string_view line;
  while (take_line(line)) {
    if (at_start_) {
      at_start_ = false;
      if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    }
    const bool blank = line.empty();
    if (!blank) take_field(line);
    if (line_joined_) partial_line_.clear();
    if (data_.size() > max_event_bytes_ || data_view_.size() > max_event_bytes_) break;
    if (!blank) continue;
    if (has_data_) {
      event.data = data_view_.data() != nullptr ? data_view_ : std::string_view(data_);
      event.name = name_;
      delivered_ = true;
      return true;
    }
    name_.clear();  // an event without data is not an event
  }
  keep_rest();
  if (std::max({data_.size(), partial_line_.size(), name_.size()}) > max_event_bytes_) {
    return fail(ErrorCode::kResourceExhausted, "event stream: one event is larger than {} bytes; the sender is broken",
                max_event_bytes_);
  }
  return false;
}

void append_sse_event(std::string& out, std::string_view data) {
  while (true) {
    const size_t end = data.find('\n');
    out += "data: ";
    out += data.substr(0, end);
    out += '\n';
    if (end == std::string_view::npos) break;
    data.remove_prefix(end + 1);
  }
  out += '\n';
}

}  // namespace crible
