#include "text/jinja/text_functions.h"

#include <algorithm>

#include "text/jinja/code_points.h"

namespace crible::jinja {
namespace {

Value text_value(std::string_view text) {
  return Value::text(std::string(text));
}

bool any(std::string_view text, bool (*holds)(char32_t)) {
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    if (holds(code_point_at(text, at))) return true;
  }
  return false;
}

// Maps each code point, telling `map` whether the one before it counted as part of the same word.
template <typename InWord>
std::string title(std::string_view text, InWord in_word) {
  std::string out;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = code_point_bytes(text, at);
    const std::string_view one = text.substr(at, bytes);
    out += inside ? to_lower(one) : to_upper(one);
    inside = in_word(code_point_at(text, at));
    at += bytes;
  }
  return out;
}

}  // namespace

std::vector<Value> split_at(Runtime& runtime, std::string_view text, std::string_view separator,
                            int64_t limit, bool from_right) {
  std::vector<Value> parts;
  while (limit != 0) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    runtime.budget.charge(1);
    if (from_right) {
      parts.push_back(text_value(text.substr(at + separator.size())));
      text = text.substr(0, at);
    } else {
      parts.push_back(text_value(text.substr(0, at)));
      text.remove_prefix(at + separator.size());
    }
    --limit;
  }
  parts.push_back(text_value(text));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Value> split_at_space(Runtime& runtime, std::string_view text, int64_t limit, bool from_right) {
  std::vector<std::string_view> words;
  for (std::string_view rest = strip(text, Side::kLeft); !rest.empty(); rest = strip(rest, Side::kLeft)) {
    size_t bytes = 0;
    while (bytes < rest.size() && !is_space(code_point_at(rest, bytes))) {
      bytes += code_point_bytes(rest, bytes);
    }
    runtime.budget.charge(1);
    words.push_back(rest.substr(0, bytes));
    rest.remove_prefix(bytes);
  }
  const auto count = static_cast<int64_t>(words.size());
  const bool whole = limit < 0 || limit >= count;
  const int64_t first = !whole && from_right ? count - limit : 0;
  const int64_t last = !whole && !from_right ? limit : count;
  std::vector<Value> parts;
  // The uncut rest keeps its inner space, and the space on its far side as Python does.
  if (first > 0) parts.push_back(text_value(text.substr(0, words[first - 1].end() - text.begin())));
  for (int64_t i = first; i < last; ++i) parts.push_back(text_value(words[i]));
  if (last < count) parts.push_back(text_value(text.substr(words[last].begin() - text.begin())));
  return parts;
}

std::string replace(Runtime& runtime, std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t limit) {
  std::string out;
  size_t at = 0;
  for (; limit != 0; --limit) {
    const size_t found = text.find(old, at);
    if (found == std::string_view::npos) break;
    out.append(text, at, found - at);
    out += replacement;
    runtime.budget.charge_text(static_cast<int64_t>(replacement.size()));
    runtime.budget.check_text(static_cast<int64_t>(out.size()));
    at = found + old.size();
    if (!old.empty()) continue;
    if (at >= text.size()) return out;
    const size_t bytes = code_point_bytes(text, at);
    out.append(text, at, bytes);
    at += bytes;
  }
  out.append(text, at);
  runtime.budget.charge_text(static_cast<int64_t>(out.size()));
  return out;
}

std::string title_by_letters(std::string_view text) {
  return title(text, [](char32_t c) { return is_upper(c) || is_lower(c); });
}

std::string title_by_words(std::string_view text) {
  return title(text, [](char32_t c) {
    return !is_space(c) && c != '-' && c != '(' && c != '{' && c != '[' && c != '<';
  });
}

std::string swap_case(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = code_point_bytes(text, at);
    const std::string_view one = text.substr(at, bytes);
    out += is_upper(code_point_at(text, at)) ? to_lower(one) : to_upper(one);
    at += bytes;
  }
  return out;
}

bool is_upper_text(std::string_view text) {
  return any(text, is_upper) && !any(text, is_lower);
}

bool is_lower_text(std::string_view text) {
  return any(text, is_lower) && !any(text, is_upper);
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out.push_back(c);
    }
  }
  return out;
}

}  // namespace crible::jinja
