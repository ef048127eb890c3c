#include "text/jinja/string_literal.h"

#include <charconv>

#include "text/jinja/code_points.h"
#include "text/jinja/template_error.h"

namespace crible::jinja {
namespace {

char32_t read_hex(std::string_view body, size_t at, size_t count, int line) {
  uint32_t value = 0;
  const std::string_view digits = body.substr(std::min(at, body.size())).substr(0, count);
  const auto [stopped, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || stopped != digits.data() + count || digits.size() != count) {
    raise_at(line, ErrorCode::kInvalidArgument, "a \\x, \\u or \\U escape lacks its {} hex digits", count);
  }
  if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
    raise_at(line, ErrorCode::kInvalidArgument, "the escape U+{:04X} is not a character", value);
  }
  return value;
}

}  // namespace

std::string unescape_literal(std::string_view body, int line) {
  static constexpr std::string_view kLetters = "ntrabfv\\'\"";
  static constexpr std::string_view kValues = "\n\t\r\a\b\f\v\\'\"";
  std::string out;
  out.reserve(body.size());
  for (size_t at = 0; at < body.size();) {
    if (body[at] != '\\' || at + 1 >= body.size()) {
      out.push_back(body[at++]);
      continue;
    }
    const char letter = body[at + 1];
    at += 2;
    if (const size_t simple = kLetters.find(letter); simple != std::string_view::npos) {
      out.push_back(kValues[simple]);
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      const size_t count = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
      append_code_point(out, read_hex(body, at, count, line));
      at += count;
    } else if (letter >= '0' && letter <= '7') {
      char32_t value = static_cast<char32_t>(letter - '0');
      for (int i = 0; i < 2 && at < body.size() && body[at] >= '0' && body[at] <= '7'; ++i) {
        value = value * 8 + static_cast<char32_t>(body[at++] - '0');
      }
      append_code_point(out, value);
    } else if (letter == 'N') {
      raise_at(line, ErrorCode::kUnsupported, "\\N escapes are not supported; write the character");
    } else if (letter != '\n') {  // a backslash at a line's end joins the lines
      out.push_back('\\');        // any other stays
      out.push_back(letter);
    }
  }
  return out;
}

}  // namespace crible::jinja
