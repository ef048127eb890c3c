// str() and repr() of values, as Python prints them. Both charge for the value's weight first.
#pragma once

#include <string>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

void append_text(Runtime& runtime, std::string& out, const Value& value);
std::string to_text(Runtime& runtime, const Value& value);
std::string to_repr(Runtime& runtime, const Value& value);

// The shortest digits that read back as the same double, with ".0" or an exponent as Python has it.
std::string float_text(double value);

}  // namespace crible::jinja
