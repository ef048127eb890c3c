// Operators of expressions over values: arithmetic, concatenation, comparison, membership.
#pragma once

#include <cstdint>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

enum class BinaryOperator : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class Comparison : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

// Fails (TemplateError) when the types do not allow it, on overflow and on division by zero.
Value apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);
bool compare(Runtime& runtime, Comparison comparison, const Value& a, const Value& b);

}  // namespace crible::jinja
