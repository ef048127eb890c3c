// A template value with Python's semantics. Everything but namespaces, iterators and loops is
// immutable once built and shared by reference count; dicts keep insertion order. Containers know
// their nesting depth and their total weight, so that an operation over one can be charged for
// before it starts (a list that holds another list twice, thirty levels deep, weighs 2^30).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace crible::jinja {

class Callable;
struct Dict;
struct Iterator;
struct LoopState;
struct Namespace;
struct Sequence;

using Text = std::shared_ptr<const std::string>;
using SequencePtr = std::shared_ptr<const Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using IteratorPtr = std::shared_ptr<Iterator>;
using NamespacePtr = std::shared_ptr<Namespace>;
using LoopPtr = std::shared_ptr<LoopState>;
using CallablePtr = std::shared_ptr<const Callable>;

struct Undefined {
  Text name;  // what was looked up, for the error message; may be null
  bool operator==(const Undefined&) const = default;
};

enum class SequenceKind : uint8_t { kList, kTuple, kRange, kDictKeys, kDictValues, kDictItems };

class Value {
 public:
  using Variant = std::variant<Undefined, std::nullptr_t, bool, int64_t, double, Text, SequencePtr, DictPtr,
                               IteratorPtr, NamespacePtr, LoopPtr, CallablePtr>;

  Value() = default;  // undefined
  explicit Value(Variant variant) : variant_(std::move(variant)) {}

  static Value none() { return Value(Variant(nullptr)); }
  static Value boolean(bool value) { return Value(Variant(value)); }
  static Value integer(int64_t value) { return Value(Variant(value)); }
  static Value floating(double value) { return Value(Variant(value)); }
  static Value text(std::string value);
  static Value undefined(Text name) { return Value(Variant(Undefined{std::move(name)})); }
  // Fails (TemplateError) when nested deeper than kMaxValueDepth; so does dict().
  static Value sequence(SequenceKind kind, std::vector<Value> items);
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value dict(Dict dict);
  // An iterable that is used up by its first use, as map() and select() return.
  static Value iterator(std::vector<Value> items);

  const Variant& variant() const { return variant_; }
  template <typename T>
  const T* get() const {
    return std::get_if<T>(&variant_);
  }
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(variant_);
  }
  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<std::nullptr_t>(); }
  bool is_text() const { return is<Text>(); }
  const std::string* as_text() const {
    const Text* text = get<Text>();
    return text != nullptr ? text->get() : nullptr;
  }

  // Python's truth of a value.
  bool truthy() const;
  // "str", "list", "dict": Python's name of the type, for error messages.
  const char* type_name() const;
  uint32_t depth() const;
  // Elements plus text in units of kTextBytesPerStep, shared parts counted as often as they occur.
  int64_t weight() const;

 private:
  Variant variant_;
};

// Hash and equality of dict keys, with look-up by plain text. Equality is Python's ==.
struct ValueHash {
  using is_transparent = void;
  size_t operator()(const Value& value) const;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
struct ValueEqual {
  using is_transparent = void;
  bool operator()(const Value& a, const Value& b) const;
  bool operator()(const Value& a, std::string_view b) const {
    const std::string* text = a.as_text();
    return text != nullptr && *text == b;
  }
  bool operator()(std::string_view a, const Value& b) const { return (*this)(b, a); }
};

struct Sequence {
  SequenceKind kind = SequenceKind::kList;
  std::vector<Value> items;
  std::array<int64_t, 3> range{};  // start, stop, step of a kRange, to print it
  uint32_t depth = 1;
  int64_t weight = 1;
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  uint32_t depth = 1;
  int64_t weight = 1;

  // Only while building. Fails (TemplateError) on a key that cannot be hashed.
  void set(Value key, Value value);
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;

 private:
  // Index of the entry, or entries.size().
  template <typename Key>
  size_t locate(const Key& key) const;

  // Filled when the dict outgrows a linear search.
  std::unordered_map<Value, size_t, ValueHash, ValueEqual> index_;
};

struct Iterator {
  std::vector<Value> items;
  size_t next = 0;
  uint32_t depth = 1;
};

// Attributes in order of assignment. The only mutable container: it may hold itself, so the render
// that made it clears it at its end (runtime.h).
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// Python's ==, and <, which fails (TemplateError) for types without an order.
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);
bool hashable(const Value& value);

}  // namespace crible::jinja
