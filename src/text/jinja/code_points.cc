#include "text/jinja/code_points.h"

#include <utf8proc.h>

#include <algorithm>

namespace crible::jinja {
namespace {

constexpr char32_t kIllFormed = 0xDC00;

bool is_continuation(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0) == 0x80;
}

void append_upper(std::string& out, char32_t code_point) {
  if (code_point == 0xDF) {  // sharp s has no single capital in Python's tables
    out += "SS";
  } else {
    append_code_point(out, utf8proc_toupper(static_cast<utf8proc_int32_t>(code_point)));
  }
}

utf8proc_category_t category(char32_t code_point) {
  return static_cast<utf8proc_category_t>(utf8proc_category(static_cast<utf8proc_int32_t>(code_point)));
}

template <typename Drop>
std::string_view strip_if(std::string_view text, Side side, Drop drop) {
  const auto on = [side](Side wanted) {
    return (static_cast<uint8_t>(side) & static_cast<uint8_t>(wanted)) != 0;
  };
  while (on(Side::kLeft) && !text.empty() && drop(code_point_at(text, 0))) {
    text.remove_prefix(code_point_bytes(text, 0));
  }
  while (on(Side::kRight) && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && is_continuation(text[start])) --start;
    if (start + code_point_bytes(text, start) != text.size()) start = text.size() - 1;
    if (!drop(code_point_at(text, start))) break;
    text.remove_suffix(text.size() - start);
  }
  return text;
}

bool ends_line(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<int8_t>(c) >= 0; });
}

size_t code_point_bytes(std::string_view text, size_t at) {
  const auto first = static_cast<uint8_t>(text[at]);
  const size_t expected = first < 0x80   ? 1
                          : first < 0xC2 ? 0
                          : first < 0xE0 ? 2
                          : first < 0xF0 ? 3
                          : first < 0xF5 ? 4
                                         : 0;
  if (expected == 0 || at + expected > text.size()) return 1;
  for (size_t i = 1; i < expected; ++i) {
    if (!is_continuation(text[at + i])) return 1;
  }
  return expected;
}

char32_t code_point_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[at + i])); };
  switch (code_point_bytes(text, at)) {
    case 2: return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3: return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    case 4: return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    default: return byte(0) < 0x80 ? byte(0) : kIllFormed + byte(0);
  }
}

void append_code_point(std::string& text, char32_t c) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c > kIllFormed && c < kIllFormed + 0x100) {
    put(c - kIllFormed);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

size_t count_code_points(std::string_view text) {
  if (is_ascii(text)) return text.size();
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) ++count;
  return count;
}

std::vector<size_t> code_point_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
  }
}

bool is_letter(char32_t c) {
  const utf8proc_category_t of = category(c);
  return of >= UTF8PROC_CATEGORY_LU && of <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_upper(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LU;
}

bool is_lower(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_LL;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    const char c = text[at];
    if (static_cast<int8_t>(c) < 0) {
      append_upper(out, code_point_at(text, at));
    } else {
      out.push_back(c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
    }
  }
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    const char c = text[at];
    if (static_cast<int8_t>(c) < 0) {
      append_code_point(out, utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point_at(text, at))));
    } else {
      out.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    }
  }
  return out;
}

std::string capitalize(std::string_view text) {
  if (text.empty()) return {};
  const size_t first = code_point_bytes(text, 0);
  return to_upper(text.substr(0, first)) + to_lower(text.substr(first));
}

std::string_view strip(std::string_view text, Side side) {
  return strip_if(text, side, is_space);
}

std::string_view strip(std::string_view text, std::string_view characters, Side side) {
  std::vector<char32_t> set;
  for (size_t at = 0; at < characters.size(); at += code_point_bytes(characters, at)) {
    set.push_back(code_point_at(characters, at));
  }
  return strip_if(text, side, [&](char32_t c) { return std::find(set.begin(), set.end(), c) != set.end(); });
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t at = 0; at < text.size();) {
    size_t next = at + code_point_bytes(text, at);
    if (!ends_line(code_point_at(text, at))) {
      at = next;
      continue;
    }
    if (text[at] == '\r' && next < text.size() && text[next] == '\n') ++next;
    lines.push_back(text.substr(start, (keep_ends ? next : at) - start));
    start = at = next;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

}  // namespace crible::jinja
