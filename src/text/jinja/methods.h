// Methods of the built-in types: "text".strip(), dict.items(), loop.cycle(). Methods that would
// change a list or dict fail when called: values are immutable, as in the sandbox that chat
// templates are written for.
#pragma once

#include <string_view>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

// The bound method, or undefined when the type has none of that name.
Value find_method(const Value& self, std::string_view name);

struct Method {
  std::string_view name;
  Function function;
};

// Method tables, one per type. nullptr when the type has no such method.
const Method* find_text_method(std::string_view name);
const Method* find_container_method(const Value& self, std::string_view name);

}  // namespace crible::jinja
