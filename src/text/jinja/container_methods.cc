// Methods of dict, list, tuple and loop.
#include <algorithm>
#include <array>

#include "text/jinja/arguments.h"
#include "text/jinja/methods.h"

namespace crible::jinja {
namespace {

const Dict& dict_of(const Value& self) {
  return **self.get<DictPtr>();
}
const std::vector<Value>& items_of(const Value& self) {
  return (*self.get<SequencePtr>())->items;
}

Value dict_view(Runtime& runtime, const Value& self, const Arguments& arguments, std::string_view name,
                SequenceKind kind) {
  const BoundArguments bound(name, arguments, {});
  const auto& entries = dict_of(self).entries;
  runtime.budget.charge(static_cast<int64_t>(entries.size()));
  std::vector<Value> items;
  items.reserve(entries.size());
  for (const auto& [key, value] : entries) {
    if (kind == SequenceKind::kDictKeys) {
      items.push_back(key);
    } else if (kind == SequenceKind::kDictValues) {
      items.push_back(value);
    } else {
      items.push_back(Value::tuple({key, value}));
    }
  }
  return Value::sequence(kind, std::move(items));
}

Value dict_items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return dict_view(runtime, self, arguments, "dict.items", SequenceKind::kDictItems);
}

Value dict_keys(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return dict_view(runtime, self, arguments, "dict.keys", SequenceKind::kDictKeys);
}

Value dict_values(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return dict_view(runtime, self, arguments, "dict.values", SequenceKind::kDictValues);
}

Value dict_get(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("dict.get", arguments, {"key", "default"});
  const Value& key = bound.required(0);
  runtime.budget.charge(key.weight());
  if (!hashable(key)) raise("a {} cannot be a key of a dict", key.type_name());
  const Value* found = dict_of(self).find(key);
  return found != nullptr ? *found : bound.value_or(1, Value::none());
}

Value copy(Runtime&, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("copy", arguments, {});
  return self;  // immutable, so the same value serves
}

Value refuse_change(Runtime&, const Value& self, const Arguments&) {
  raise("a {} cannot be changed in place; assign a new one, or use a namespace", self.type_name());
}

Value sequence_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"value"});
  runtime.budget.charge(self.weight());
  const auto& items = items_of(self);
  return Value::integer(std::count_if(items.begin(), items.end(),
                                      [&](const Value& item) { return equal(item, bound.required(0)); }));
}

Value sequence_index(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("index", arguments, {"value"});
  runtime.budget.charge(self.weight());
  const auto& items = items_of(self);
  const auto found = std::find_if(items.begin(), items.end(),
                                  [&](const Value& item) { return equal(item, bound.required(0)); });
  if (found == items.end()) raise("the value is not in the {}", self.type_name());
  return Value::integer(found - items.begin());
}

Value loop_cycle(Runtime&, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty()) raise("loop.cycle needs at least one value");
  const auto index = static_cast<size_t>((*self.get<LoopPtr>())->index0);
  return arguments.positional[index % arguments.positional.size()];
}

Value loop_changed(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const LoopPtr& loop = *self.get<LoopPtr>();
  auto& last = loop->last_changed;
  for (const Value& value : arguments.positional) runtime.budget.charge(value.weight());
  if (last && std::equal(last->begin(), last->end(), arguments.positional.begin(), arguments.positional.end(),
                         equal)) {
    return Value::boolean(false);
  }
  if (!last) runtime.retain(loop);
  last = arguments.positional;
  return Value::boolean(true);
}

constexpr std::array kDictMethods = {
    Method{"items", dict_items},
    Method{"keys", dict_keys},
    Method{"values", dict_values},
    Method{"get", dict_get},
    Method{"copy", copy},
    Method{"update", refuse_change},
    Method{"pop", refuse_change},
    Method{"popitem", refuse_change},
    Method{"setdefault", refuse_change},
    Method{"clear", refuse_change},
};

constexpr std::array kListMethods = {
    Method{"count", sequence_count}, Method{"index", sequence_index}, Method{"copy", copy},
    Method{"append", refuse_change}, Method{"extend", refuse_change}, Method{"insert", refuse_change},
    Method{"pop", refuse_change},    Method{"remove", refuse_change}, Method{"reverse", refuse_change},
    Method{"sort", refuse_change},   Method{"clear", refuse_change},
};

constexpr std::array kTupleMethods = {
    Method{"count", sequence_count},
    Method{"index", sequence_index},
};

constexpr std::array kLoopMethods = {
    Method{"cycle", loop_cycle},
    Method{"changed", loop_changed},
};

template <size_t N>
const Method* find_in(const std::array<Method, N>& table, std::string_view name) {
  const auto found =
      std::find_if(table.begin(), table.end(), [name](const Method& method) { return method.name == name; });
  return found == table.end() ? nullptr : &*found;
}

}  // namespace

const Method* find_container_method(const Value& self, std::string_view name) {
  if (self.is<DictPtr>()) return find_in(kDictMethods, name);
  if (self.is<LoopPtr>()) return find_in(kLoopMethods, name);
  const SequencePtr* sequence = self.get<SequencePtr>();
  if (sequence == nullptr) return nullptr;
  if ((*sequence)->kind == SequenceKind::kList) return find_in(kListMethods, name);
  if ((*sequence)->kind <= SequenceKind::kRange) return find_in(kTupleMethods, name);
  return nullptr;
}

}  // namespace crible::jinja
