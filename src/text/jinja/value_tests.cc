// The tests of templates: `value is defined`, `select("equalto", x)`.
#include <unordered_map>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/number.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

template <bool (*holds)(const Value&)>
Value property(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("this test", arguments, {});
  return Value::boolean(holds(input));
}

bool defined(const Value& value) {
  return !value.is_undefined();
}
bool undefined(const Value& value) {
  return value.is_undefined();
}
bool none(const Value& value) {
  return value.is_none();
}
bool boolean(const Value& value) {
  return value.is<bool>();
}
bool is_true(const Value& value) {
  return value.is<bool>() && *value.get<bool>();
}
bool is_false(const Value& value) {
  return value.is<bool>() && !*value.get<bool>();
}
bool integer(const Value& value) {
  return value.is<int64_t>();
}
bool is_float(const Value& value) {
  return value.is<double>();
}
bool number(const Value& value) {
  return as_number(value).has_value();
}
bool string(const Value& value) {
  return value.is_text();
}
bool mapping(const Value& value) {
  return value.is<DictPtr>();
}
bool callable(const Value& value) {
  return value.is<CallablePtr>();
}
bool never(const Value&) {
  return false;
}

// What has a length and elements: views of a dict have no elements by position.
bool sequence(const Value& value) {
  if (const SequencePtr* items = value.get<SequencePtr>()) {
    return (*items)->kind <= SequenceKind::kRange;
  }
  return value.is_text() || value.is<DictPtr>() || value.is_undefined();
}

template <Comparison comparison>
Value comparing(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("this test", arguments, {"other"});
  return Value::boolean(compare(runtime, comparison, input, bound.required(0)));
}

Value remainder_of(Runtime& runtime, const Value& input, const Value& divisor) {
  return apply(runtime, BinaryOperator::kModulo, input, divisor);
}

template <int64_t remainder>
Value parity(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("odd or even", arguments, {});
  return Value::boolean(equal(remainder_of(runtime, input, Value::integer(2)), Value::integer(remainder)));
}

Value divisible_by(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("divisibleby", arguments, {"num"});
  return Value::boolean(equal(remainder_of(runtime, input, bound.required(0)), Value::integer(0)));
}

template <bool (*holds)(std::string_view)>
Value cased(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("lower or upper", arguments, {});
  return Value::boolean(holds(to_text(runtime, input)));
}

Value same_as(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sameas", arguments, {"other"});
  const Value& other = bound.required(0);
  if (input.variant().index() != other.variant().index()) return Value::boolean(false);
  // Scalars have no identity here: equal ones are the same.
  if (!input.is<SequencePtr>() && !input.is<DictPtr>()) {
    return Value::boolean(compare(runtime, Comparison::kEqual, input, other));
  }
  return Value::boolean(input.variant() == other.variant());
}

template <Function (*find)(std::string_view)>
Value exists(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("filter or test", arguments, {});
  return Value::boolean(input.is_text() && find(*input.as_text()) != nullptr);
}

}  // namespace

Function find_test(std::string_view name) {
  static const std::unordered_map<std::string_view, Function> kTests = {
      {"defined", property<defined>},
      {"undefined", property<undefined>},
      {"none", property<none>},
      {"boolean", property<boolean>},
      {"true", property<is_true>},
      {"false", property<is_false>},
      {"integer", property<integer>},
      {"float", property<is_float>},
      {"number", property<number>},
      {"string", property<string>},
      {"mapping", property<mapping>},
      {"sequence", property<sequence>},
      {"iterable", property<is_iterable>},
      {"callable", property<callable>},
      {"escaped", property<never>},
      {"odd", parity<1>},
      {"even", parity<0>},
      {"divisibleby", divisible_by},
      {"lower", cased<is_lower_text>},
      {"upper", cased<is_upper_text>},
      {"sameas", same_as},
      {"filter", exists<find_filter>},
      {"test", exists<find_test>},
      {"in", comparing<Comparison::kIn>},
      {"eq", comparing<Comparison::kEqual>},
      {"equalto", comparing<Comparison::kEqual>},
      {"==", comparing<Comparison::kEqual>},
      {"ne", comparing<Comparison::kNotEqual>},
      {"!=", comparing<Comparison::kNotEqual>},
      {"lt", comparing<Comparison::kLess>},
      {"lessthan", comparing<Comparison::kLess>},
      {"<", comparing<Comparison::kLess>},
      {"le", comparing<Comparison::kLessEqual>},
      {"<=", comparing<Comparison::kLessEqual>},
      {"gt", comparing<Comparison::kGreater>},
      {"greaterthan", comparing<Comparison::kGreater>},
      {">", comparing<Comparison::kGreater>},
      {"ge", comparing<Comparison::kGreaterEqual>},
      {">=", comparing<Comparison::kGreaterEqual>},
  };
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

}  // namespace crible::jinja
