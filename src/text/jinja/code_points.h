// Text as Python's str sees it: a sequence of code points, kept here as UTF-8. A byte that is not
// part of well-formed UTF-8 counts as one code point and is passed through unchanged.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace crible::jinja {

bool is_ascii(std::string_view text);

// Bytes of the code point that starts at text[at].
size_t code_point_bytes(std::string_view text, size_t at);
// Its value; an ill-formed byte reads as 0xDC00 + byte, which no well-formed text contains.
char32_t code_point_at(std::string_view text, size_t at);
void append_code_point(std::string& text, char32_t code_point);

size_t count_code_points(std::string_view text);
// Start of every code point, and text.size() at the end.
std::vector<size_t> code_point_offsets(std::string_view text);

// Unicode white space as str.isspace() and str.strip() define it.
bool is_space(char32_t code_point);
// Code points without a glyph, which repr() escapes.
bool is_printable(char32_t code_point);
bool is_letter(char32_t code_point);
bool is_digit(char32_t code_point);
bool is_upper(char32_t code_point);
bool is_lower(char32_t code_point);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
// First code point in upper case, the rest in lower case.
std::string capitalize(std::string_view text);

enum class Side : uint8_t { kLeft = 1, kRight = 2, kBoth = 3 };
std::string_view strip(std::string_view text, Side side = Side::kBoth);
// Strips the code points that occur in `characters`.
std::string_view strip(std::string_view text, std::string_view characters, Side side);

// Python's str.splitlines(keepends).
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

}  // namespace crible::jinja
