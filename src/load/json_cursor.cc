#include "load/json_cursor.h"

#include <cstring>

namespace crible::load {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Value of the four hexadecimal digits at `at`; the cursor has checked that they are there.
uint32_t hex4(const char* at) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value * 16 + static_cast<uint32_t>(hex_value(at[i]));
  return value;
}

void append_utf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace

void JsonCursor::skip_space() {
  while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
}

bool JsonCursor::at_end() {
  skip_space();
  return at_ == end_;
}

char JsonCursor::peek() {
  skip_space();
  return ok_ && at_ < end_ ? *at_ : '\0';
}

bool JsonCursor::take(char c) {
  if (peek() != c) {
    ok_ = false;
    return false;
  }
  ++at_;
  return true;
}

std::string_view JsonCursor::take_string() {
  if (!take('"')) return {};
  const char* begin = at_;
  while (at_ < end_) {
    const unsigned char c = static_cast<unsigned char>(*at_);
    if (c == '"') return std::string_view(begin, static_cast<size_t>(at_++ - begin));
    if (c < 0x20) break;
    if (c != '\\') {
      ++at_;
      continue;
    }
    if (end_ - at_ < 2) break;
    if (at_[1] == 'u') {
      if (end_ - at_ < 6) break;
      bool digits = true;
      for (int i = 2; i < 6; ++i) digits = digits && hex_value(at_[i]) >= 0;
      if (!digits) break;
      at_ += 6;
    } else {
      if (std::strchr("\"\\/bfnrt", at_[1]) == nullptr || at_[1] == '\0') break;
      at_ += 2;
    }
  }
  fail();
  return {};
}

int64_t JsonCursor::take_integer() {
  skip_space();
  int64_t value = 0;
  const auto [end, error] = std::from_chars(at_, end_, value);
  const bool fraction = end < end_ && (*end == '.' || *end == 'e' || *end == 'E');
  if (error != std::errc() || fraction) fail();
  if (ok_) at_ = end;
  return ok_ ? value : 0;
}

void JsonCursor::take_word(std::string_view word) {
  if (static_cast<size_t>(end_ - at_) < word.size() || std::memcmp(at_, word.data(), word.size()) != 0)
    return fail();
  at_ += word.size();
}

bool JsonCursor::take_null() {
  if (peek() != 'n') return false;
  take_word("null");
  return ok_;
}

void JsonCursor::skip_number() {
  const auto digits = [&] {
    const char* begin = at_;
    while (at_ < end_ && is_digit(*at_)) ++at_;
    return at_ > begin;
  };
  if (*at_ == '-') ++at_;
  const bool leading_zero = at_ < end_ && *at_ == '0';
  const char* whole = at_;
  if (!digits() || (leading_zero && at_ - whole > 1)) return fail();
  if (at_ < end_ && *at_ == '.') {
    ++at_;
    if (!digits()) return fail();
  }
  if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
    ++at_;
    if (at_ < end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!digits()) return fail();
  }
}

void JsonCursor::skip_value() {
  switch (peek()) {
    case '{': return each_member([&](std::string_view) { skip_value(); });
    case '[': return each_element([&] { skip_value(); });
    case '"': take_string(); return;
    case 't': return take_word("true");
    case 'f': return take_word("false");
    case 'n': return take_word("null");
    case '\0': return fail();
    default: return skip_number();
  }
}

void append_unescaped(std::string_view raw, std::string& out) {
  size_t at = 0;
  while (at < raw.size()) {
    const size_t backslash = raw.find('\\', at);
    out.append(raw.substr(at, backslash - at));
    if (backslash == std::string_view::npos) return;
    at = backslash + 2;
    switch (const char kind = raw[backslash + 1]) {
      case 'b': out += '\b'; break;
      case 'f': out += '\f'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case 'u': {
        uint32_t code = hex4(raw.data() + at);
        at += 4;
        const bool low_follows = raw.size() - at >= 6 && raw[at] == '\\' && raw[at + 1] == 'u';
        const uint32_t low = low_follows ? hex4(raw.data() + at + 2) : 0;
        if (code >= 0xD800 && code < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
          at += 6;
        } else if (code >= 0xD800 && code < 0xE000) {
          code = 0xFFFD;
        }
        append_utf8(code, out);
        break;
      }
      default: out += kind;
    }
  }
}

}  // namespace crible::load
