// Makes any text safe where it is put: names and messages come from specs, servers and log files
// and may hold markup, pipes, control characters or bytes that are no UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace crible::report {

// Valid UTF-8 without control characters but newline and tab; broken bytes become U+FFFD.
std::string clean_text(std::string_view raw);

std::string escape_html(std::string_view raw);  // text and double-quoted attribute values

// Inline Markdown (GitHub flavour) that renders as exactly this text, also in a table cell.
std::string escape_markdown(std::string_view raw);
// A code span, with a fence longer than any run of backticks in it. Even in code, a bare pipe would
// end a table cell.
std::string markdown_code(std::string_view raw, bool in_table);
// A fenced block.
std::string markdown_fence(std::string_view raw, std::string_view language);

// Terminal columns that the text takes (East Asian wide characters count 1).
size_t display_width(std::string_view text);

}  // namespace crible::report
