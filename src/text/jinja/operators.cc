#include "text/jinja/operators.h"

#include <algorithm>
#include <array>

#include "text/jinja/number.h"
#include "text/jinja/string_format.h"

namespace crible::jinja {
namespace {

constexpr std::array<std::string_view, 7> kSymbols = {"+", "-", "*", "/", "//", "%", "**"};

const Sequence* list_or_tuple(const Value& value) {
  const SequencePtr* sequence = value.get<SequencePtr>();
  return sequence != nullptr && (*sequence)->kind <= SequenceKind::kTuple ? sequence->get() : nullptr;
}

Value concatenate(Runtime& runtime, const Sequence& a, const Sequence& b) {
  runtime.budget.charge(static_cast<int64_t>(a.items.size() + b.items.size()));
  std::vector<Value> items;
  items.reserve(a.items.size() + b.items.size());
  items.insert(items.end(), a.items.begin(), a.items.end());
  items.insert(items.end(), b.items.begin(), b.items.end());
  return Value::sequence(a.kind, std::move(items));
}

// The size of `count` copies, saturated: the budget refuses it long before it matters.
int64_t repeated_size(size_t size, int64_t count) {
  int64_t total = 0;
  return __builtin_mul_overflow(static_cast<int64_t>(size), count, &total) ? INT64_MAX : total;
}

Value repeat_text(Runtime& runtime, const std::string& text, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const int64_t bytes = repeated_size(text.size(), count);
  runtime.budget.charge_text(bytes);
  std::string out;
  out.reserve(static_cast<size_t>(bytes));
  for (int64_t i = 0; i < count && !text.empty(); ++i) out += text;
  return Value::text(std::move(out));
}

Value repeat_items(Runtime& runtime, const Sequence& sequence, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const int64_t total = repeated_size(sequence.items.size(), count);
  runtime.budget.charge(total);
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(total));
  for (int64_t i = 0; i < count && !sequence.items.empty(); ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::sequence(sequence.kind, std::move(items));
}

// text * int and list * int, either way round; undefined when it is neither.
Value repeat(Runtime& runtime, const Value& a, const Value& b) {
  const bool number_first = as_number(a).has_value();
  const Value& repeated = number_first ? b : a;
  const auto count = as_number(number_first ? a : b);
  if (!count || count->is_float) return Value();
  if (const std::string* text = repeated.as_text()) return repeat_text(runtime, *text, count->integer);
  if (const Sequence* items = list_or_tuple(repeated)) return repeat_items(runtime, *items, count->integer);
  return Value();
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const std::string* text = container.as_text()) {
    const std::string* part = item.as_text();
    if (part == nullptr) raise("'in' a string needs a string on its left, not {}", item.type_name());
    runtime.budget.charge_text(static_cast<int64_t>(text->size()));
    return text->find(*part) != std::string::npos;
  }
  if (const DictPtr* dict = container.get<DictPtr>()) {
    if (!hashable(item)) raise("a {} cannot be a key of a dict", item.type_name());
    runtime.budget.charge(item.weight());
    return (*dict)->find(item) != nullptr;
  }
  const auto among = [&](auto first, auto last) {
    return std::any_of(first, last, [&](const Value& element) {
      runtime.budget.charge(std::min(element.weight(), item.weight()));
      return equal(element, item);
    });
  };
  if (const SequencePtr* sequence = container.get<SequencePtr>()) {
    return among((*sequence)->items.begin(), (*sequence)->items.end());
  }
  if (const IteratorPtr* iterator = container.get<IteratorPtr>()) {
    auto& [items, next, depth] = **iterator;
    while (next < items.size()) {  // like Python, stops behind the element it finds
      runtime.budget.charge(std::min(items[next].weight(), item.weight()));
      if (equal(items[next++], item)) return true;
    }
    return false;
  }
  if (container.is_undefined()) return false;
  raise("'in' needs a string, list or dict on its right, not {}", container.type_name());
}

[[noreturn]] void raise_operands(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (const Undefined* undefined = value->get<Undefined>()) {
      raise("'{}' is undefined", undefined->name ? *undefined->name : "an operand");
    }
  }
  raise("'{}' is not defined between {} and {}", op, a.type_name(), b.type_name());
}

}  // namespace

Value apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b) {
  const std::string_view symbol = kSymbols[static_cast<size_t>(op)];
  const auto left = as_number(a);
  const auto right = as_number(b);
  if (left && right) return arithmetic(symbol, *left, *right);
  if (op == BinaryOperator::kAdd) {
    if (a.is_text() && b.is_text()) {
      runtime.budget.charge_text(static_cast<int64_t>(a.as_text()->size() + b.as_text()->size()));
      return Value::text(*a.as_text() + *b.as_text());
    }
    const Sequence* x = list_or_tuple(a);
    const Sequence* y = list_or_tuple(b);
    if (x != nullptr && y != nullptr && x->kind == y->kind) return concatenate(runtime, *x, *y);
  } else if (op == BinaryOperator::kMultiply) {
    if (Value repeated = repeat(runtime, a, b); !repeated.is_undefined()) return repeated;
  } else if (op == BinaryOperator::kModulo && a.is_text()) {
    return Value::text(percent_format(runtime, *a.as_text(), b));
  }
  raise_operands(symbol, a, b);
}

Value negate(const Value& value) {
  const auto number = as_number(value);
  if (!number) raise_operands("-", value, value);
  if (number->is_float) return Value::floating(-number->real);
  return arithmetic("-", Number{}, *number);
}

Value positive(const Value& value) {
  const auto number = as_number(value);
  if (!number) raise_operands("+", value, value);
  return number->is_float ? Value::floating(number->real) : Value::integer(number->integer);
}

bool compare(Runtime& runtime, Comparison comparison, const Value& a, const Value& b) {
  if (comparison == Comparison::kIn) return contains(runtime, b, a);
  if (comparison == Comparison::kNotIn) return !contains(runtime, b, a);
  runtime.budget.charge(std::min(a.weight(), b.weight()));
  switch (comparison) {
    case Comparison::kEqual: return equal(a, b);
    case Comparison::kNotEqual: return !equal(a, b);
    default: break;
  }
  if (a.is_undefined() || b.is_undefined()) raise_operands("<", a, b);
  switch (comparison) {
    case Comparison::kLess: return less(a, b);
    case Comparison::kGreater: return less(b, a);
    case Comparison::kLessEqual: return less(a, b) || equal(a, b);
    default: return less(b, a) || equal(a, b);
  }
}

}  // namespace crible::jinja
