// Numbers as Python sees them: bool is an int, int and float compare exactly, integer arithmetic
// never wraps (beyond 64 bits it fails, where Python would go on).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace crible::jinja {

struct Number {
  bool is_float = false;
  int64_t integer = 0;
  double real = 0;

  double as_double() const { return is_float ? real : static_cast<double>(integer); }
};

std::optional<Number> as_number(const Value& value);
std::partial_ordering compare(const Number& a, const Number& b);

// op is one of "+", "-", "*", "/", "//", "%", "**". Fails (TemplateError) on division by zero and
// on a result outside the type.
Value arithmetic(std::string_view op, const Number& a, const Number& b);

// Python's int(text, base) and float(text): surrounding space and single underscores are allowed.
std::optional<int64_t> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

// Truncates towards zero; fails (TemplateError) outside 64 bits.
int64_t truncate(double value);

}  // namespace crible::jinja
