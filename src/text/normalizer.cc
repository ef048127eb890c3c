#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>

#include "base/check.h"
#include "text/utf8.h"
#include "text/white_space.h"

namespace crible {
namespace {

using CodePoint = utf8proc_int32_t;

void append_utf8(CodePoint code_point, std::string& out) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code_point, bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

template <typename F>
void for_each_code_point(std::string_view text, F f) {
  const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    CodePoint code_point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(at, left, &code_point);
    CHECK(length > 0, "text is not UTF-8");
    f(code_point);
    at += length;
    left -= length;
  }
}

// Marks in a row, in the order of their combining class. utf8proc's own way of doing this takes
// quadratic time on a text that was made for it.
void sort_marks(std::vector<CodePoint>& code_points) {
  const auto combining_class = [](CodePoint code_point) {
    return utf8proc_get_property(code_point)->combining_class;
  };
  for (size_t i = 0; i < code_points.size();) {
    if (combining_class(code_points[i]) == 0) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < code_points.size() && combining_class(code_points[end]) != 0) ++end;
    std::stable_sort(code_points.begin() + static_cast<std::ptrdiff_t>(i),
                     code_points.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](CodePoint a, CodePoint b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
}

std::string replace_all(std::string_view text, const LiteralReplaceStep& step) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0;;) {
    const size_t found = text.find(step.from, at);
    out.append(text.substr(at, found == std::string_view::npos ? found : found - at));
    if (found == std::string_view::npos) return out;
    out += step.to;
    at = found + step.from.size();
  }
}

std::string replace_matches(std::string_view text, const PatternReplaceStep& step) {
  PatternScanner scanner;
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const auto match = scanner.next(step.from, text, at);
    out.append(text.substr(at, match.begin - at));
    if (match.end > match.begin) out += step.to;
    at = match.end;
  }
  return out;
}

std::string collapse_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
    out += c;
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

// Character by character, without regard to what stands beside it (no final sigma).
std::string lower_case(std::string_view text) {
  std::string out;
  for_each_code_point(text, [&](CodePoint code_point) {
    if (code_point == 0x130) {
      out += "i\u0307";  // the one character whose lower case is two
    } else {
      append_utf8(utf8proc_tolower(code_point), out);
    }
  });
  return out;
}

struct Apply {
  std::string_view text;
  std::string operator()(UnicodeForm form) const { return to_unicode_form(text, form); }
  std::string operator()(const LowercaseStep&) const { return lower_case(text); }
  std::string operator()(const PrependStep& step) const {
    return text.empty() ? std::string() : step.prefix + std::string(text);
  }
  std::string operator()(const LiteralReplaceStep& step) const { return replace_all(text, step); }
  std::string operator()(const PatternReplaceStep& step) const { return replace_matches(text, step); }
  std::string operator()(const StripStep& step) const {
    std::string_view rest = text;
    if (step.left) rest.remove_prefix(leading_white_space(rest));
    if (step.right) rest.remove_suffix(trailing_white_space(rest));
    return std::string(rest);
  }
  std::string operator()(const CollapseSpacesStep&) const { return collapse_spaces(text); }
};

}  // namespace

std::string to_unicode_form(std::string_view text, UnicodeForm form) {
  const bool compatibility = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool compose = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  // ASCII is in every form.
  if (std::ranges::all_of(text, [](char c) { return static_cast<uint8_t>(c) < 0x80; }))
    return std::string(text);
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<CodePoint> code_points;
  code_points.reserve(text.size());
  for_each_code_point(text, [&](CodePoint code_point) {
    CodePoint parts[32];  // the longest decomposition has 18
    int last_boundary = UTF8PROC_BOUNDCLASS_START;
    const auto count = utf8proc_decompose_char(code_point, parts, 32, options, &last_boundary);
    CHECK(count > 0 && count <= 32);
    code_points.insert(code_points.end(), parts, parts + count);
  });
  sort_marks(code_points);
  if (compose) {
    const auto count =
        utf8proc_normalize_utf32(code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()),
                                 static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    CHECK(count >= 0);
    code_points.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const CodePoint code_point : code_points) append_utf8(code_point, out);
  return out;
}

std::string Normalizer::apply(std::string_view text) const {
  if (steps_.empty()) return std::string(text);
  std::string current = std::visit(Apply{text}, steps_.front());
  for (size_t i = 1; i < steps_.size(); ++i) current = std::visit(Apply{current}, steps_[i]);
  return current;
}

}  // namespace crible
