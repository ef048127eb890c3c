// Python's two ways to format text: "%s is %d" % (a, b), and "{} is {:>5}".format(a, b).
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/runtime.h"

namespace crible::jinja {

// `operand`: a tuple of values, one value, or a dict for "%(name)s".
std::string percent_format(Runtime& runtime, std::string_view format, const Value& operand);
std::string brace_format(Runtime& runtime, std::string_view format, const Arguments& arguments);

}  // namespace crible::jinja
