// White space (Unicode White_Space) and word characters (letters, marks, decimal digits, connectors)
// at the two ends of valid UTF-8.
#pragma once

#include <cstddef>
#include <string_view>

namespace crible {

// Bytes of white space that text begins, ends with.
size_t leading_white_space(std::string_view text);
size_t trailing_white_space(std::string_view text);

bool begins_with_word_character(std::string_view text);
bool ends_with_word_character(std::string_view text);

}  // namespace crible
