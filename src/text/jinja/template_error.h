// The one exception of the template interpreter. It never leaves the folder: Template::parse and
// Template::render turn it into an Error. A tree walk with some thirty kinds of node reads better
// without a check after every call, and a failing render is the rare case.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/result.h"

namespace crible::jinja {

struct TemplateError {
  Error error;
  int line = 0;  // 1-based; 0 when the thrower does not know it (the interpreter adds it)
};

template <typename... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{{ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)}, 0};
}

template <typename... Args>
[[noreturn]] void raise_at(int line, ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{{code, fmt::format(format, std::forward<Args>(args)...)}, line};
}

}  // namespace crible::jinja
