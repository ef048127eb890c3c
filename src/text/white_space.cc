#include "text/white_space.h"

#include <utf8proc.h>

#include <cstdint>

#include "text/utf8.h"

namespace crible {
namespace {

// The first character, and where it ends.
int32_t first_character(std::string_view text, size_t& length) {
  length = utf8_sequence_length(text);
  utf8proc_int32_t code_point = -1;
  if (length > 0) {
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(length), &code_point);
  }
  return code_point;
}

std::string_view last_character(std::string_view text) {
  size_t length = 1;
  while (length < text.size() && length < 4 &&
         (static_cast<uint8_t>(text[text.size() - length]) & 0xC0) == 0x80)
    ++length;
  return text.substr(text.size() - length);
}

bool is_white_space(int32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_word_character(int32_t code_point) {
  if (code_point < 0) return false;
  if (code_point == 0x200C || code_point == 0x200D) return true;  // joiners
  const bool circled_letter =
      (code_point >= 0x24B6 && code_point <= 0x24E9) || (code_point >= 0x1F130 && code_point <= 0x1F149) ||
      (code_point >= 0x1F150 && code_point <= 0x1F169) || (code_point >= 0x1F170 && code_point <= 0x1F189);
  if (circled_letter) return true;
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

}  // namespace

size_t leading_white_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    size_t length = 0;
    if (!is_white_space(first_character(text.substr(at), length))) break;
    at += length;
  }
  return at;
}

size_t trailing_white_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const std::string_view last = last_character(text.substr(0, end));
    size_t length = 0;
    if (!is_white_space(first_character(last, length))) break;
    end -= last.size();
  }
  return text.size() - end;
}

bool begins_with_word_character(std::string_view text) {
  size_t length = 0;
  return is_word_character(first_character(text, length));
}

bool ends_with_word_character(std::string_view text) {
  if (text.empty()) return false;
  size_t length = 0;
  return is_word_character(first_character(last_character(text), length));
}

}  // namespace crible
