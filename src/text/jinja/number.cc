#include "text/jinja/number.h"

#include <charconv>
#include <cmath>
#include <string>

#include "text/jinja/code_points.h"
#include "text/jinja/template_error.h"

namespace crible::jinja {
namespace {

[[noreturn]] void raise_overflow(std::string_view op) {
  raise("the result of {} does not fit in 64 bits", op);
}

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) raise_overflow("**");
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) raise_overflow("**");
  }
  return result;
}

// Floor division and its remainder; the remainder has the divisor's sign.
Value divide_integers(std::string_view op, int64_t a, int64_t b) {
  if (b == 0) raise("division by zero");
  if (b == -1) {  // INT64_MIN / -1 traps
    if (op == "%") return Value::integer(0);
    int64_t negated = 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &negated)) raise_overflow(op);
    return Value::integer(negated);
  }
  int64_t quotient = a / b;
  int64_t remainder = a % b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    --quotient;
    remainder += b;
  }
  return Value::integer(op == "%" ? remainder : quotient);
}

Value divide_floats(std::string_view op, double a, double b) {
  if (b == 0.0) raise("division by zero");
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0.0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1.0;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == "%") return Value::floating(remainder);
  if (quotient == 0.0) return Value::floating(std::copysign(0.0, a / b));
  double floor = std::floor(quotient);
  if (quotient - floor > 0.5) floor += 1.0;  // the subtraction above was rounded
  return Value::floating(floor);
}

Value float_power(double a, double b) {
  if (a == 0.0 && b < 0) raise("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && std::floor(b) != b) {
    raise("a negative number has no real power {}", b);
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) {
    raise("the result of ** is out of the range of a float");
  }
  return Value::floating(result);
}

Value integer_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &result)) raise_overflow(op);
  } else if (op == "-") {
    if (__builtin_sub_overflow(a, b, &result)) raise_overflow(op);
  } else if (op == "*") {
    if (__builtin_mul_overflow(a, b, &result)) raise_overflow(op);
  } else if (op == "**") {
    if (b < 0) return float_power(static_cast<double>(a), static_cast<double>(b));
    return Value::integer(integer_power(a, b));
  } else {
    return divide_integers(op, a, b);
  }
  return Value::integer(result);
}

// Removes single underscores between digits; nullopt when one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string digits;
  digits.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      digits.push_back(text[i]);
    } else if (i == 0 || i + 1 == text.size() || text[i - 1] == '_' || text[i - 1] == '.' ||
               text[i + 1] == '.') {
      return std::nullopt;
    }
  }
  return digits;
}

}  // namespace

std::optional<Number> as_number(const Value& value) {
  if (const int64_t* integer = value.get<int64_t>()) return Number{false, *integer, 0};
  if (const double* real = value.get<double>()) return Number{true, 0, *real};
  if (const bool* boolean = value.get<bool>()) return Number{false, *boolean ? 1 : 0, 0};
  return std::nullopt;
}

std::partial_ordering compare(const Number& a, const Number& b) {
  if (!a.is_float && !b.is_float) return a.integer <=> b.integer;
  // An x87 long double holds every 64-bit integer and every double, so mixed comparison is exact.
  const long double x = a.is_float ? static_cast<long double>(a.real) : a.integer;
  const long double y = b.is_float ? static_cast<long double>(b.real) : b.integer;
  return x <=> y;
}

Value arithmetic(std::string_view op, const Number& a, const Number& b) {
  if (op == "/") {
    if (b.as_double() == 0.0) raise("division by zero");
    return Value::floating(a.as_double() / b.as_double());
  }
  if (!a.is_float && !b.is_float) return integer_arithmetic(op, a.integer, b.integer);
  const double x = a.as_double();
  const double y = b.as_double();
  if (op == "+") return Value::floating(x + y);
  if (op == "-") return Value::floating(x - y);
  if (op == "*") return Value::floating(x * y);
  if (op == "**") return float_power(x, y);
  return divide_floats(op, x, y);
}

std::optional<int64_t> parse_integer(std::string_view text, int base) {
  text = strip(text);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const char marker = text.size() > 1 && text[0] == '0' ? static_cast<char>(text[1] | 0x20) : '\0';
  const int marked = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    base = marked;
    text.remove_prefix(2);
    if (!text.empty() && text[0] == '_') text.remove_prefix(1);
  } else if (base == 0) {
    base = 10;
  }
  if (text.empty() || text[0] == '-') return std::nullopt;
  const auto digits = without_underscores(text);
  if (!digits) return std::nullopt;
  const std::string signed_digits = fmt::format("{}{}", negative ? "-" : "", *digits);
  const char* end = signed_digits.data() + signed_digits.size();
  int64_t result = 0;
  const auto [stopped, error] = std::from_chars(signed_digits.data(), end, result, base);
  if (error == std::errc::result_out_of_range && stopped == end) {
    raise("the number {} does not fit in 64 bits", signed_digits.substr(0, 40));
  }
  if (error != std::errc() || stopped != end) return std::nullopt;
  return result;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text);
  if (!text.empty() && text[0] == '+') {
    text.remove_prefix(1);
    if (!text.empty() && text[0] == '-') return std::nullopt;
  }
  const auto digits = without_underscores(text);
  if (!digits || digits->empty() || digits->find('(') != std::string::npos) return std::nullopt;
  double result = 0;
  const char* end = digits->data() + digits->size();
  const auto [stopped, error] = std::from_chars(digits->data(), end, result);
  if (stopped != end) return std::nullopt;
  if (error == std::errc::result_out_of_range) {
    // Python gives infinity or zero here; the exponent's sign says which.
    const bool tiny = digits->find("e-") != std::string::npos || digits->find("E-") != std::string::npos;
    const double magnitude = tiny ? 0.0 : HUGE_VAL;
    return (*digits)[0] == '-' ? -magnitude : magnitude;
  }
  if (error != std::errc()) return std::nullopt;
  return result;
}

int64_t truncate(double value) {
  if (std::isnan(value)) raise("a NaN has no integer value");
  // 2^63 is exact as a double; the largest double below it fits.
  if (value >= 9223372036854775808.0 || value < -9223372036854775808.0) {
    raise("the number {} does not fit in 64 bits", value);
  }
  return static_cast<int64_t>(value);
}

}  // namespace crible::jinja
