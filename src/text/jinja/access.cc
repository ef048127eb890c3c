#include "text/jinja/access.h"

#include <algorithm>

#include "text/jinja/code_points.h"
#include "text/jinja/methods.h"
#include "text/jinja/number.h"

namespace crible::jinja {
namespace {

[[noreturn]] void raise_undefined(const Undefined& undefined) {
  raise("'{}' is undefined", undefined.name ? *undefined.name : "the value");
}

Value loop_attribute(const LoopPtr& loop, std::string_view name) {
  const int64_t index0 = loop->index0;
  const int64_t length = loop->length();
  const auto neighbour = [&](int64_t at) {
    if (at < 0 || at >= length) return Value();
    return loop->items->items[static_cast<size_t>(at)];
  };
  if (name == "index") return Value::integer(index0 + 1);
  if (name == "index0") return Value::integer(index0);
  if (name == "revindex") return Value::integer(length - index0);
  if (name == "revindex0") return Value::integer(length - index0 - 1);
  if (name == "first") return Value::boolean(index0 == 0);
  if (name == "last") return Value::boolean(index0 + 1 == length);
  if (name == "length") return Value::integer(length);
  // Depth counts recursive loops only, which are not supported.
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") return neighbour(index0 - 1);
  if (name == "nextitem") return neighbour(index0 + 1);
  return find_method(Value(Value::Variant(loop)), name);
}

// Undefined when out of range; Python's negative positions count from the end.
Value element_at(Runtime& runtime, const Value& value, int64_t index) {
  if (const SequencePtr* sequence = value.get<SequencePtr>()) {
    const auto& items = (*sequence)->items;
    if ((*sequence)->kind > SequenceKind::kRange) return Value();  // views have no positions
    if (index < 0) index += static_cast<int64_t>(items.size());
    if (index < 0 || index >= static_cast<int64_t>(items.size())) return Value();
    return items[static_cast<size_t>(index)];
  }
  const std::string* text = value.as_text();
  if (text == nullptr) return Value();
  runtime.budget.charge_text(static_cast<int64_t>(text->size()));
  if (is_ascii(*text)) {
    if (index < 0) index += static_cast<int64_t>(text->size());
    if (index < 0 || index >= static_cast<int64_t>(text->size())) return Value();
    return Value::text(text->substr(static_cast<size_t>(index), 1));
  }
  const std::vector<size_t> offsets = code_point_offsets(*text);
  const auto count = static_cast<int64_t>(offsets.size()) - 1;
  if (index < 0) index += count;
  if (index < 0 || index >= count) return Value();
  const size_t at = offsets[static_cast<size_t>(index)];
  return Value::text(text->substr(at, offsets[static_cast<size_t>(index) + 1] - at));
}

// A slice over `length` elements, clamped to them.
struct Span {
  int64_t first;
  int64_t end;  // exclusive, in the direction of the stride
  int64_t stride;
};

Span clamp_slice(int64_t length, const Value& start, const Value& stop, const Value& step) {
  const auto bound = [](const Value& value, const char* what) -> std::optional<int64_t> {
    if (value.is_none()) return std::nullopt;
    const auto number = as_number(value);
    if (!number || number->is_float) raise("the {} of a slice must be an integer", what);
    return number->integer;
  };
  const int64_t stride = bound(step, "step").value_or(1);
  if (stride == 0) raise("the step of a slice cannot be zero");
  const int64_t lowest = stride < 0 ? -1 : 0;
  const int64_t highest = stride < 0 ? length - 1 : length;
  const auto clamp = [&](std::optional<int64_t> at, int64_t fallback) {
    if (!at) return fallback;
    // Only far out-of-range positions could overflow here, and those clamp either way.
    const int64_t from_start = *at < 0 ? std::max(*at, -length - 1) + length : *at;
    return std::clamp(from_start, lowest, highest);
  };
  return {clamp(bound(start, "start"), stride < 0 ? highest : lowest),
          clamp(bound(stop, "stop"), stride < 0 ? lowest : highest), stride};
}

std::vector<size_t> positions_of(const Span& span) {
  std::vector<size_t> positions;
  const auto& [first, end, stride] = span;
  for (int64_t at = first; stride > 0 ? at < end : at > end;) {
    positions.push_back(static_cast<size_t>(at));
    // Compared by the distance left, so that a huge stride cannot overflow the position.
    const int64_t left = stride > 0 ? end - at : at - end;
    if (stride > 0 ? stride >= left : stride <= -left) break;
    at += stride;
  }
  return positions;
}

Value slice_text(Runtime& runtime, const std::string& text, const Value& start, const Value& stop,
                 const Value& step) {
  runtime.budget.charge_text(static_cast<int64_t>(text.size()));
  const std::vector<size_t> offsets = code_point_offsets(text);
  runtime.budget.charge(static_cast<int64_t>(offsets.size()) / kTextBytesPerStep);
  std::string out;
  for (const size_t at :
       positions_of(clamp_slice(static_cast<int64_t>(offsets.size()) - 1, start, stop, step))) {
    out.append(text, offsets[at], offsets[at + 1] - offsets[at]);
  }
  return Value::text(std::move(out));
}

Value slice_range(const Sequence& range, const Span& span, std::vector<Value> items) {
  const int64_t start = range.range[0];
  const int64_t step = range.range[2];
  // Unsigned, because a bound outside 64 bits only prints wrongly.
  const auto at = [start, step](int64_t index) {
    return static_cast<int64_t>(static_cast<uint64_t>(start) +
                                static_cast<uint64_t>(index) * static_cast<uint64_t>(step));
  };
  auto sliced = std::make_shared<Sequence>();
  sliced->kind = SequenceKind::kRange;
  sliced->range = {at(span.first), at(span.end),
                   static_cast<int64_t>(static_cast<uint64_t>(step) * static_cast<uint64_t>(span.stride))};
  sliced->weight += static_cast<int64_t>(items.size());
  sliced->items = std::move(items);
  return Value(Value::Variant(SequencePtr(std::move(sliced))));
}

std::vector<Value> characters(const std::string& text) {
  std::vector<Value> items;
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = code_point_bytes(text, at);
    items.push_back(Value::text(text.substr(at, bytes)));
    at += bytes;
  }
  return items;
}

}  // namespace

Value get_attribute(Runtime& runtime, const Value& value, const Text& name) {
  if (const Undefined* undefined = value.get<Undefined>()) raise_undefined(*undefined);
  runtime.budget.charge(1);
  if (const DictPtr* dict = value.get<DictPtr>()) {
    if (Value method = find_method(value, *name); !method.is_undefined()) return method;
    if (const Value* found = (*dict)->find(*name)) return *found;
  } else if (const NamespacePtr* space = value.get<NamespacePtr>()) {
    runtime.budget.charge(static_cast<int64_t>((*space)->attributes.size()) / 8);
    if (const Value* found = (*space)->find(*name)) return *found;
  } else if (const LoopPtr* loop = value.get<LoopPtr>()) {
    return loop_attribute(*loop, *name);
  } else if (const CallablePtr* callable = value.get<CallablePtr>()) {
    if (*name == "name") return Value::text((*callable)->name());
  } else if (Value method = find_method(value, *name); !method.is_undefined()) {
    return method;
  }
  return Value::undefined(name);
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  if (const Undefined* undefined = value.get<Undefined>()) raise_undefined(*undefined);
  runtime.budget.charge(1);
  const Text* name = key.get<Text>();
  if (const DictPtr* dict = value.get<DictPtr>()) {
    runtime.budget.charge(key.weight());
    if (hashable(key)) {
      if (const Value* found = name ? (*dict)->find(**name) : (*dict)->find(key)) return *found;
    }
  } else if (const auto number = as_number(key); number && !number->is_float) {
    Value element = element_at(runtime, value, number->integer);
    if (!element.is_undefined()) return element;
    return Value::undefined(std::make_shared<const std::string>(
        fmt::format("element {} of a {}", number->integer, value.type_name())));
  }
  if (name != nullptr) return get_attribute(runtime, value, *name);
  return Value();
}

Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step) {
  if (const Undefined* undefined = value.get<Undefined>()) raise_undefined(*undefined);
  if (const std::string* text = value.as_text()) {
    return slice_text(runtime, *text, start, stop, step);
  }
  const SequencePtr* sequence = value.get<SequencePtr>();
  if (sequence == nullptr || (*sequence)->kind > SequenceKind::kRange) {
    raise("a {} cannot be sliced", value.type_name());
  }
  const auto& items = (*sequence)->items;
  const Span span = clamp_slice(static_cast<int64_t>(items.size()), start, stop, step);
  const std::vector<size_t> positions = positions_of(span);
  runtime.budget.charge(static_cast<int64_t>(positions.size()));
  std::vector<Value> selected;
  selected.reserve(positions.size());
  for (const size_t at : positions) selected.push_back(items[at]);
  if ((*sequence)->kind == SequenceKind::kRange) return slice_range(**sequence, span, std::move(selected));
  return Value::sequence((*sequence)->kind, std::move(selected));
}

Value get_path(Runtime& runtime, const Value& value, const Value& path) {
  const std::string* text = path.as_text();
  if (text == nullptr) return get_item(runtime, value, path);
  Value current = value;
  for (size_t start = 0; start <= text->size();) {
    const size_t end = std::min(text->find('.', start), text->size());
    std::string part = text->substr(start, end - start);
    const bool digits =
        !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    const auto position = digits ? parse_integer(part, 10) : std::nullopt;
    current = get_item(runtime, current, position ? Value::integer(*position) : Value::text(std::move(part)));
    start = end + 1;
  }
  return current;
}

SequencePtr iterate(Runtime& runtime, const Value& value) {
  if (const SequencePtr* sequence = value.get<SequencePtr>()) {
    runtime.budget.charge(1);
    return *sequence;
  }
  std::vector<Value> items;
  if (const DictPtr* dict = value.get<DictPtr>()) {
    runtime.budget.charge(static_cast<int64_t>((*dict)->entries.size()));
    for (const auto& entry : (*dict)->entries) items.push_back(entry.first);
  } else if (const std::string* text = value.as_text()) {
    runtime.budget.charge(static_cast<int64_t>(text->size()));
    items = characters(*text);
  } else if (const IteratorPtr* iterator = value.get<IteratorPtr>()) {
    auto& rest = (*iterator)->items;
    runtime.budget.charge(static_cast<int64_t>(rest.size()));
    items.assign(rest.begin() + static_cast<int64_t>((*iterator)->next), rest.end());
    (*iterator)->next = rest.size();
  } else if (!value.is_undefined()) {
    raise("a {} cannot be iterated", value.type_name());
  }
  return *Value::list(std::move(items)).get<SequencePtr>();
}

bool is_iterable(const Value& value) {
  return value.is<SequencePtr>() || value.is<DictPtr>() || value.is_text() || value.is<IteratorPtr>() ||
         value.is_undefined() || value.is<LoopPtr>();
}

std::optional<int64_t> length_of(Runtime& runtime, const Value& value) {
  if (const std::string* text = value.as_text()) {
    runtime.budget.charge_text(static_cast<int64_t>(text->size()));
    return static_cast<int64_t>(count_code_points(*text));
  }
  if (const SequencePtr* sequence = value.get<SequencePtr>()) {
    return static_cast<int64_t>((*sequence)->items.size());
  }
  if (const DictPtr* dict = value.get<DictPtr>()) {
    return static_cast<int64_t>((*dict)->entries.size());
  }
  if (const LoopPtr* loop = value.get<LoopPtr>()) return (*loop)->length();
  if (value.is_undefined()) return 0;
  return std::nullopt;
}

}  // namespace crible::jinja
