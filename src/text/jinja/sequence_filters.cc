// Filters over the elements of a value.
#include <algorithm>
#include <unordered_set>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/code_points.h"
#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/number.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

Value length(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("length", arguments, {});
  const auto size = length_of(runtime, input);
  if (!size) raise("a {} has no length", input.type_name());
  return Value::integer(*size);
}

Value list(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("list", arguments, {});
  const SequencePtr items = iterate(runtime, input);
  if (items->kind == SequenceKind::kList) return Value(Value::Variant(items));
  runtime.budget.charge(static_cast<int64_t>(items->items.size()));
  return Value::list(items->items);
}

Value first(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("first", arguments, {});
  if (const std::string* text = input.as_text(); text != nullptr && !text->empty()) {
    return Value::text(text->substr(0, code_point_bytes(*text, 0)));
  }
  if (const IteratorPtr* iterator = input.get<IteratorPtr>()) {
    auto& state = **iterator;
    return state.next < state.items.size() ? state.items[state.next++] : Value();
  }
  const SequencePtr items = iterate(runtime, input);
  return items->items.empty() ? Value() : items->items.front();
}

Value last(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("last", arguments, {});
  if (input.is<IteratorPtr>()) raise("last needs a list; put '| list' before it");
  if (input.is_text()) return get_item(runtime, input, Value::integer(-1));
  const SequencePtr items = iterate(runtime, input);
  return items->items.empty() ? Value() : items->items.back();
}

// The values of `attribute` (a path) of all elements, or the elements themselves without one.
std::vector<Value> project(Runtime& runtime, const SequencePtr& items, const BoundArguments& bound,
                           size_t index) {
  runtime.budget.charge(static_cast<int64_t>(items->items.size()));
  if (bound.absent(index)) return items->items;
  std::vector<Value> out;
  out.reserve(items->items.size());
  for (const Value& item : items->items) out.push_back(get_path(runtime, item, bound.required(index)));
  return out;
}

Value join(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"d", "attribute"});
  const std::string separator = bound.has(0) ? to_text(runtime, bound.required(0)) : "";
  const std::vector<Value> items = project(runtime, iterate(runtime, input), bound, 1);
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += separator;
    append_text(runtime, out, items[i]);
    runtime.budget.charge_text(static_cast<int64_t>(separator.size()));
    runtime.budget.check_text(static_cast<int64_t>(out.size()));
  }
  return Value::text(std::move(out));
}

Value reverse(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("reverse", arguments, {});
  if (input.is_text()) {
    return get_slice(runtime, input, Value::none(), Value::none(), Value::integer(-1));
  }
  std::vector<Value> items = iterate(runtime, input)->items;
  runtime.budget.charge(static_cast<int64_t>(items.size()));
  std::reverse(items.begin(), items.end());
  // Python reverses an iterator or a set of values into a list, and the rest lazily.
  return input.is<IteratorPtr>() ? Value::list(std::move(items)) : Value::iterator(std::move(items));
}

Value items_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("items", arguments, {});
  if (input.is_undefined()) return Value::iterator({});
  const DictPtr* dict = input.get<DictPtr>();
  if (dict == nullptr) raise("items needs a dict, not {}", input.type_name());
  std::vector<Value> pairs;
  runtime.budget.charge(static_cast<int64_t>((*dict)->entries.size()));
  for (const auto& [key, value] : (*dict)->entries) pairs.push_back(Value::tuple({key, value}));
  return Value::iterator(std::move(pairs));
}

// The first argument names the filter or test to apply, the rest goes to it.
Arguments rest_of(const Arguments& arguments, size_t skip) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<int64_t>(skip),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

Function named_function(const Value& name, Function (*find)(std::string_view), const char* what) {
  if (!name.is_text()) raise("the name of a {} must be a string, not {}", what, name.type_name());
  const Function function = find(*name.as_text());
  if (function == nullptr) raise("there is no {} named '{}'", what, *name.as_text());
  return function;
}

Value map(Runtime& runtime, const Value& input, const Arguments& arguments) {
  std::vector<Value> out;
  const SequencePtr items = iterate(runtime, input);
  if (arguments.positional.empty()) {
    const BoundArguments bound("map", arguments, {"attribute", "default"});
    for (const Value& item : items->items) {
      Value value = get_path(runtime, item, bound.required(0));
      out.push_back(value.is_undefined() && !bound.absent(1) ? bound.required(1) : std::move(value));
    }
    return Value::iterator(std::move(out));
  }
  const Function filter = named_function(arguments.positional[0], find_filter, "filter");
  const Arguments rest = rest_of(arguments, 1);
  for (const Value& item : items->items) {
    runtime.budget.charge(1);
    out.push_back(filter(runtime, item, rest));
  }
  return Value::iterator(std::move(out));
}

template <bool keep, bool by_attribute>
Value select(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr size_t kSkip = by_attribute ? 1 : 0;
  if (arguments.positional.size() < kSkip) raise("selectattr and rejectattr need an attribute");
  Function test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > kSkip) {
    test = named_function(arguments.positional[kSkip], find_test, "test");
    rest = rest_of(arguments, kSkip + 1);
  }
  std::vector<Value> out;
  const SequencePtr items = iterate(runtime, input);
  for (const Value& item : items->items) {
    runtime.budget.charge(1);
    const Value tested = by_attribute ? get_path(runtime, item, arguments.positional[0]) : item;
    const bool holds = test != nullptr ? test(runtime, tested, rest).truthy() : tested.truthy();
    if (holds == keep) out.push_back(item);
  }
  return Value::iterator(std::move(out));
}

// What sorting and comparing look at: text in lower case unless `case_sensitive`.
Value sort_key(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_text()) return value;
  runtime.budget.charge_mapping(static_cast<int64_t>(value.as_text()->size()));
  return Value::text(to_lower(*value.as_text()));
}

// Positions of the keys in order. Stable in both directions.
std::vector<size_t> sorted_positions(Runtime& runtime, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Value& x = keys[reverse ? b : a];
    const Value& y = keys[reverse ? a : b];
    return compare(runtime, Comparison::kLess, x, y);
  });
  return order;
}

// "a,b.c" sorts by several attributes: the key is a list of them.
Value attribute_key(Runtime& runtime, const Value& item, const Value& attribute, bool case_sensitive) {
  const std::string* text = attribute.as_text();
  std::vector<Value> parts;
  if (text == nullptr) {
    parts.push_back(sort_key(runtime, get_path(runtime, item, attribute), case_sensitive));
  } else {
    for (const Value& path : split_at(runtime, *text, ",", -1, false)) {
      parts.push_back(sort_key(runtime, get_path(runtime, item, path), case_sensitive));
    }
  }
  return Value::list(std::move(parts));
}

Value sort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const SequencePtr items = iterate(runtime, input);
  const bool case_sensitive = bound.boolean_or(1, false);
  std::vector<Value> keys;
  for (const Value& item : items->items) {
    keys.push_back(bound.absent(2) ? sort_key(runtime, item, case_sensitive)
                                   : attribute_key(runtime, item, bound.required(2), case_sensitive));
  }
  std::vector<Value> out;
  for (const size_t at : sorted_positions(runtime, keys, bound.boolean_or(0, false))) {
    out.push_back(items->items[at]);
  }
  return Value::list(std::move(out));
}

Value dictsort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const DictPtr* dict = input.get<DictPtr>();
  if (dict == nullptr) raise("dictsort needs a dict, not {}", input.type_name());
  const std::string by = bound.text_or(1, "key");
  if (by != "key" && by != "value") raise("dictsort sorts by 'key' or 'value', not '{}'", by);
  std::vector<Value> keys;
  for (const auto& [key, value] : (*dict)->entries) {
    keys.push_back(sort_key(runtime, by == "key" ? key : value, bound.boolean_or(0, false)));
  }
  std::vector<Value> out;
  for (const size_t at : sorted_positions(runtime, keys, bound.boolean_or(2, false))) {
    const auto& [key, value] = (*dict)->entries[at];
    out.push_back(Value::tuple({key, value}));
  }
  return Value::list(std::move(out));
}

Value unique(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("unique", arguments, {"case_sensitive", "attribute"});
  const SequencePtr items = iterate(runtime, input);
  const std::vector<Value> projected = project(runtime, items, bound, 1);
  std::unordered_set<Value, ValueHash, ValueEqual> seen;
  std::vector<Value> out;
  for (size_t i = 0; i < projected.size(); ++i) {
    Value key = sort_key(runtime, projected[i], bound.boolean_or(0, false));
    if (!hashable(key)) raise("unique cannot compare values of type {}", key.type_name());
    runtime.budget.charge(key.weight());
    if (seen.insert(std::move(key)).second) out.push_back(items->items[i]);
  }
  return Value::iterator(std::move(out));
}

template <bool largest>
Value extreme(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const SequencePtr items = iterate(runtime, input);
  if (items->items.empty()) return Value();
  std::vector<Value> keys = project(runtime, items, bound, 1);
  for (Value& key : keys) key = sort_key(runtime, key, bound.boolean_or(0, false));
  size_t best = 0;
  for (size_t i = 1; i < keys.size(); ++i) {
    const Comparison better = largest ? Comparison::kGreater : Comparison::kLess;
    if (compare(runtime, better, keys[i], keys[best])) best = i;
  }
  return items->items[best];
}

Value sum(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("sum", arguments, {"attribute", "start"});
  Value total = bound.value_or(1, Value::integer(0));
  if (total.is_text()) raise("sum adds numbers or lists; use join for strings");
  for (const Value& item : project(runtime, iterate(runtime, input), bound, 0)) {
    total = apply(runtime, BinaryOperator::kAdd, total, item);
  }
  return total;
}

Value batch(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("batch", arguments, {"linecount", "fill_with"});
  const int64_t size = bound.integer(0);
  if (size < 1) raise("batch needs a positive number of items, not {}", size);
  std::vector<Value> batches;
  std::vector<Value> current;
  const SequencePtr items = iterate(runtime, input);
  for (const Value& item : items->items) {
    runtime.budget.charge(1);
    if (static_cast<int64_t>(current.size()) == size) {
      batches.push_back(Value::list(std::exchange(current, {})));
    }
    current.push_back(item);
  }
  if (!current.empty()) {
    if (!bound.absent(1)) {
      const int64_t missing = size - static_cast<int64_t>(current.size());
      runtime.budget.charge(missing);
      current.insert(current.end(), static_cast<size_t>(missing), bound.required(1));
    }
    batches.push_back(Value::list(std::move(current)));
  }
  return Value::iterator(std::move(batches));
}

}  // namespace

const std::vector<NamedFunction>& sequence_filters() {
  static const std::vector<NamedFunction> kFilters = {
      {"length", length},
      {"count", length},
      {"list", list},
      {"first", first},
      {"last", last},
      {"join", join},
      {"reverse", reverse},
      {"items", items_filter},
      {"map", map},
      {"select", select<true, false>},
      {"reject", select<false, false>},
      {"selectattr", select<true, true>},
      {"rejectattr", select<false, true>},
      {"sort", sort},
      {"dictsort", dictsort},
      {"unique", unique},
      {"min", extreme<false>},
      {"max", extreme<true>},
      {"sum", sum},
      {"batch", batch},
  };
  return kFilters;
}

}  // namespace crible::jinja
