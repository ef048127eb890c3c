// Translates the regular expressions of tokenizer.json files, which are written for Oniguruma (Ruby
// syntax, Unicode), into PCRE2's syntax: \s, \d, \w and properties mean Unicode, \h is a hexadecimal
// digit, (?m) lets the dot match line breaks, {n,m}+ repeats. Constructs with no sure equal
// (nested classes, &&, named groups, back references) are kUnsupported and named.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace crible {

Result<std::string> pcre2_from_oniguruma(std::string_view pattern);

}  // namespace crible
