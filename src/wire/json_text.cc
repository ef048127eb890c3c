#include "wire/json_text.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "wire/simd_json.h"

namespace crible {
namespace {

// Brackets outside of strings. The text need not be valid: too deep is all that is asked.
int nesting_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

// "[json.exception.parse_error.101] parse error at line 1, column 9: syntax error ..." without what
// only the library's authors can use.
std::string readable(std::string_view what) {
  const size_t end = what.find("] ");
  if (what.starts_with('[') && end != std::string_view::npos) what.remove_prefix(end + 2);
  std::string text;
  // The library quotes what it last read, which may be invalid UTF-8: the reply must not be.
  for (const char c : what) text += (c >= 0x20 && c < 0x7F) ? c : '?';
  constexpr size_t kLongest = 400;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

constexpr auto kNeedsEscape = [] {
  std::array<bool, 256> table{};
  for (int c = 0; c < 0x20; ++c) table[static_cast<size_t>(c)] = true;
  table['"'] = table['\\'] = true;
  return table;
}();

void append_escaped(std::string& out, char c) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default:
      out += "\\u00";
      out += kHex[(c >> 4) & 0xF];
      out += kHex[c & 0xF];
  }
}

}  // namespace

ApiResult<Json> parse_json(std::string_view text) {
  if (nesting_depth(text) > kMaxJsonDepth) {
    return bad_field({}, fmt::format("the request body nests deeper than {} levels", kMaxJsonDepth));
  }
  // The parser takes this byte for the end of the text and would not see what follows.
  if (text.find('\0') != std::string_view::npos) {
    return bad_field({}, "the request body is not valid JSON: it holds a NUL byte");
  }
  if (auto document = parse_with_simd(text)) return std::move(*document);
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    return bad_field({}, fmt::format("the request body is not valid JSON: {}", readable(e.what())));
  }
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  size_t copied = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!kNeedsEscape[static_cast<unsigned char>(text[i])]) continue;
    out += text.substr(copied, i - copied);
    append_escaped(out, text[i]);
    copied = i + 1;
  }
  out += text.substr(copied);
  out += '"';
}

}  // namespace crible
