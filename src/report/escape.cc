#include "report/escape.h"

#include <algorithm>
#include <cstdint>

namespace crible::report {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Length of the well-formed UTF-8 sequence at the start (RFC 3629), or 0.
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool overlong = first == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = first == 0xed && byte(1) >= 0xa0;
    return continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool overlong = first == 0xf0 && byte(1) < 0x90;
    const bool too_large = first == 0xf4 && byte(1) >= 0x90;
    return continues(1) && continues(2) && continues(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

size_t longest_backtick_run(std::string_view text) {
  size_t longest = 0;
  size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

std::string on_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

bool is_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (static_cast<uint8_t>(c) & 0x80) != 0;
}

}  // namespace

std::string clean_text(std::string_view raw) {
  std::string clean;
  clean.reserve(raw.size());
  while (!raw.empty()) {
    const size_t length = sequence_length(raw);
    if (length == 0) {
      clean += kReplacement;
      raw.remove_prefix(1);
      continue;
    }
    const auto first = static_cast<uint8_t>(raw[0]);
    const bool control = first < 0x20 || first == 0x7f;
    if (!control || first == '\n' || first == '\t') {
      clean += raw.substr(0, length);
    } else if (first != '\r') {
      clean += kReplacement;
    }
    raw.remove_prefix(length);
  }
  return clean;
}

std::string escape_html(std::string_view raw) {
  std::string escaped;
  for (const char c : clean_text(raw)) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

std::string escape_markdown(std::string_view raw) {
  const std::string clean = on_one_line(clean_text(raw));
  std::string escaped;
  for (size_t i = 0; i < clean.size(); ++i) {
    const char c = clean[i];
    const bool inside_word = i > 0 && i + 1 < clean.size() && is_word(clean[i - 1]) && is_word(clean[i + 1]);
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else if (std::string_view("\\`*[]|~").find(c) != std::string_view::npos || (c == '_' && !inside_word) ||
               (c == '#' && i == 0)) {
      escaped += '\\';
      escaped += c;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string markdown_code(std::string_view raw, bool in_table) {
  const std::string clean = on_one_line(clean_text(raw));
  if (clean.empty()) return "";
  const std::string fence(longest_backtick_run(clean) + 1, '`');
  // A space inside each fence keeps a backtick at the edge apart; renderers strip one pair.
  const bool pad = clean.front() == '`' || clean.back() == '`' || clean.front() == ' ';
  std::string body;
  for (const char c : clean) {
    if (c == '|' && in_table) body += '\\';
    body += c;
  }
  return fence + (pad ? " " : "") + body + (pad ? " " : "") + fence;
}

std::string markdown_fence(std::string_view raw, std::string_view language) {
  const std::string clean = clean_text(raw);
  const std::string fence(std::max<size_t>(3, longest_backtick_run(clean) + 1), '`');
  std::string block = fence;
  block += language;
  block += '\n';
  block += clean;
  if (!clean.ends_with('\n')) block += '\n';
  return block + fence + "\n";
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(),
                                           [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

}  // namespace crible::report
