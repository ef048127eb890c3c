// Text operations shared by the methods of str and the filters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"

namespace crible::jinja {

// At most `limit` cuts, any number when negative; counted from the right when `from_right`.
std::vector<Value> split_at(Runtime& runtime, std::string_view text, std::string_view separator,
                            int64_t limit, bool from_right);
// At runs of white space; none of the parts is empty.
std::vector<Value> split_at_space(Runtime& runtime, std::string_view text, int64_t limit, bool from_right);

// At most `limit` occurrences, all when negative. An empty `old` occurs around every code point.
std::string replace(Runtime& runtime, std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t limit);

// str.title(): every run of letters starts with a capital.
std::string title_by_letters(std::string_view text);
// The title filter: words are cut at white space, '-' and opening brackets only.
std::string title_by_words(std::string_view text);
std::string swap_case(std::string_view text);
// At least one cased letter, and none of the other case.
bool is_upper_text(std::string_view text);
bool is_lower_text(std::string_view text);

// & < > " ' as HTML entities.
std::string escape_html(std::string_view text);

}  // namespace crible::jinja
