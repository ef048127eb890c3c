// Escapes of string literals, as Python has them.
#pragma once

#include <string>
#include <string_view>

namespace crible::jinja {

// `body` without its quotes. Fails (TemplateError at `line`) on a malformed or surrogate escape.
std::string unescape_literal(std::string_view body, int line);

}  // namespace crible::jinja
