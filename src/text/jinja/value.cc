#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/budget.h"
#include "text/jinja/loop.h"
#include "text/jinja/number.h"
#include "text/jinja/runtime.h"

namespace crible::jinja {
namespace {

constexpr size_t kLinearDictEntries = 8;
constexpr int64_t kMaxWeight = std::numeric_limits<int64_t>::max() / 4;

// Adds a part to a container's depth and weight. Weights saturate: a shared part may count 2^60
// times.
void account(uint32_t& depth, int64_t& weight, const Value& part) {
  depth = std::max(depth, part.depth() + 1);
  if (depth > kMaxValueDepth) {
    raise("a value nests more than {} lists or dicts", kMaxValueDepth);
  }
  weight = std::min(kMaxWeight, weight + part.weight());
}

bool equal_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}

bool equal_sequences(const Sequence& a, const Sequence& b) {
  if (a.kind == SequenceKind::kDictValues || b.kind == SequenceKind::kDictValues) return &a == &b;
  return a.kind == b.kind && equal_items(a.items, b.items);
}

}  // namespace

Value Value::text(std::string value) {
  return Value(Variant(std::make_shared<const std::string>(std::move(value))));
}

Value Value::sequence(SequenceKind kind, std::vector<Value> items) {
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  for (const Value& item : items) account(sequence->depth, sequence->weight, item);
  sequence->items = std::move(items);
  return Value(Variant(SequencePtr(std::move(sequence))));
}

Value Value::list(std::vector<Value> items) {
  return sequence(SequenceKind::kList, std::move(items));
}

Value Value::tuple(std::vector<Value> items) {
  return sequence(SequenceKind::kTuple, std::move(items));
}

Value Value::dict(Dict dict) {
  for (const auto& [key, value] : dict.entries) {
    account(dict.depth, dict.weight, key);
    account(dict.depth, dict.weight, value);
  }
  return Value(Variant(DictPtr(std::make_shared<const Dict>(std::move(dict)))));
}

Value Value::iterator(std::vector<Value> items) {
  auto iterator = std::make_shared<Iterator>();
  int64_t weight = 1;
  for (const Value& item : items) account(iterator->depth, weight, item);
  iterator->items = std::move(items);
  return Value(Variant(std::move(iterator)));
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const bool* value = get<bool>()) return *value;
  if (const int64_t* value = get<int64_t>()) return *value != 0;
  if (const double* value = get<double>()) return *value != 0.0;
  if (const std::string* value = as_text()) return !value->empty();
  if (const SequencePtr* value = get<SequencePtr>()) return !(*value)->items.empty();
  if (const DictPtr* value = get<DictPtr>()) return !(*value)->entries.empty();
  return true;
}

const char* Value::type_name() const {
  static constexpr std::array<const char*, std::variant_size_v<Variant>> kNames = {
      "undefined", "none", "bool",      "int",       "float", "str",
      "list",      "dict", "generator", "namespace", "loop",  "function"};
  if (const SequencePtr* sequence = get<SequencePtr>()) {
    static constexpr std::array<const char*, 6> kSequenceNames = {"list",      "tuple",       "range",
                                                                  "dict_keys", "dict_values", "dict_items"};
    return kSequenceNames[static_cast<size_t>((*sequence)->kind)];
  }
  return kNames[variant_.index()];
}

uint32_t Value::depth() const {
  if (const SequencePtr* sequence = get<SequencePtr>()) return (*sequence)->depth;
  if (const DictPtr* dict = get<DictPtr>()) return (*dict)->depth;
  if (const IteratorPtr* iterator = get<IteratorPtr>()) return (*iterator)->depth;
  if (const LoopPtr* loop = get<LoopPtr>()) return (*loop)->items->depth + 1;
  if (const CallablePtr* callable = get<CallablePtr>()) return (*callable)->depth();
  return 0;
}

int64_t Value::weight() const {
  if (const std::string* text = as_text()) {
    return 1 + static_cast<int64_t>(text->size()) / kTextBytesPerStep;
  }
  if (const SequencePtr* sequence = get<SequencePtr>()) return (*sequence)->weight;
  if (const DictPtr* dict = get<DictPtr>()) return (*dict)->weight;
  return 1;
}

size_t ValueHash::operator()(const Value& value) const {
  if (const std::string* text = value.as_text()) return (*this)(std::string_view(*text));
  if (const auto number = as_number(value)) return std::hash<double>{}(number->as_double());
  if (const SequencePtr* sequence = value.get<SequencePtr>()) {
    size_t hash = (*sequence)->items.size();
    for (const Value& item : (*sequence)->items) hash = hash * 1'000'003 ^ (*this)(item);
    return hash;
  }
  return value.variant().index();
}

bool ValueEqual::operator()(const Value& a, const Value& b) const {
  return equal(a, b);
}

template <typename Key>
size_t Dict::locate(const Key& key) const {
  if (!index_.empty()) {
    const auto found = index_.find(key);
    return found == index_.end() ? entries.size() : found->second;
  }
  size_t at = 0;
  while (at < entries.size() && !ValueEqual{}(entries[at].first, key)) ++at;
  return at;
}

void Dict::set(Value key, Value value) {
  if (!hashable(key)) raise("a {} cannot be a key of a dict", key.type_name());
  const size_t at = locate(key);
  if (at < entries.size()) {
    entries[at].second = std::move(value);
    return;
  }
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() <= kLinearDictEntries) return;
  for (size_t i = index_.size(); i < entries.size(); ++i) index_.emplace(entries[i].first, i);
}

const Value* Dict::find(const Value& key) const {
  const size_t at = locate(key);
  return at < entries.size() ? &entries[at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const size_t at = locate(key);
  return at < entries.size() ? &entries[at].second : nullptr;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [attribute, value] : attributes) {
    if (attribute == name) return &value;
  }
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [attribute, current] : attributes) {
    if (attribute == name) {
      current = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(value));
}

bool equal(const Value& a, const Value& b) {
  const auto left = as_number(a);
  if (left) {
    const auto right = as_number(b);
    return right && compare(*left, *right) == std::partial_ordering::equivalent;
  }
  if (a.variant().index() != b.variant().index()) return false;
  if (a.is_undefined() || a.is_none()) return true;
  if (const std::string* text = a.as_text()) return *text == *b.as_text();
  if (const SequencePtr* sequence = a.get<SequencePtr>()) {
    return equal_sequences(**sequence, **b.get<SequencePtr>());
  }
  if (const DictPtr* dict = a.get<DictPtr>()) return equal_dicts(**dict, **b.get<DictPtr>());
  return a.variant() == b.variant();  // iterators, namespaces, loops, functions: the same object
}

bool less(const Value& a, const Value& b) {
  const auto left = as_number(a);
  const auto right = as_number(b);
  if (left && right) return compare(*left, *right) == std::partial_ordering::less;
  const std::string* left_text = a.as_text();
  const std::string* right_text = b.as_text();
  // Byte order of UTF-8 is code point order, which is Python's.
  if (left_text != nullptr && right_text != nullptr) return *left_text < *right_text;
  const SequencePtr* left_items = a.get<SequencePtr>();
  const SequencePtr* right_items = b.get<SequencePtr>();
  if (left_items != nullptr && right_items != nullptr && (*left_items)->kind == (*right_items)->kind &&
      (*left_items)->kind <= SequenceKind::kTuple) {
    const auto& x = (*left_items)->items;
    const auto& y = (*right_items)->items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  raise("'<' is not defined between {} and {}", a.type_name(), b.type_name());
}

bool hashable(const Value& value) {
  if (value.is<DictPtr>()) return false;
  const SequencePtr* sequence = value.get<SequencePtr>();
  if (sequence == nullptr) return true;
  if ((*sequence)->kind != SequenceKind::kTuple && (*sequence)->kind != SequenceKind::kRange) {
    return false;
  }
  return std::all_of((*sequence)->items.begin(), (*sequence)->items.end(), hashable);
}

}  // namespace crible::jinja
