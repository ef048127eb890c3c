// Functions that every template can call: range, namespace, dict, raise_exception, strftime_now.
#include <ctime>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/number.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

class GlobalFunction final : public Callable {
 public:
  GlobalFunction(std::string_view name, Function function) : name_(name), function_(function) {}
  Value call(Runtime& runtime, const Arguments& arguments) const override {
    return function_(runtime, Value(), arguments);
  }
  std::string name() const override { return std::string(name_); }

 private:
  const std::string_view name_;  // a literal
  const Function function_;
};

Value range(Runtime& runtime, const Value&, const Arguments& arguments) {
  const bool one = arguments.positional.size() == 1;
  const BoundArguments bound("range", arguments, {one ? "stop" : "start", one ? "start" : "stop", "step"});
  const int64_t start = one ? 0 : bound.integer(0);
  const int64_t stop = one ? bound.integer(0) : bound.integer(1);
  const int64_t step = bound.integer_or(2, 1);
  if (step == 0) raise("the step of range cannot be zero");
  const Number distance{true, 0,
                        (static_cast<double>(stop) - static_cast<double>(start)) / static_cast<double>(step)};
  const int64_t limit = runtime.budget.limits().max_range_items;
  if (distance.real > static_cast<double>(limit)) {
    raise("range would have more than {} elements", limit);
  }
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = SequenceKind::kRange;
  sequence->range = {start, stop, step};
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    sequence->items.push_back(Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  sequence->weight += static_cast<int64_t>(sequence->items.size());
  runtime.budget.charge(sequence->weight);
  return Value(Value::Variant(SequencePtr(std::move(sequence))));
}

// dict(pairs or dict, name=value...), the argument of dict() and namespace().
Dict collect(Runtime& runtime, const Arguments& arguments, const char* function) {
  if (arguments.positional.size() > 1) raise("{} takes at most one argument without a name", function);
  Dict dict;
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional[0];
    if (const DictPtr* other = source.get<DictPtr>()) {
      runtime.budget.charge(static_cast<int64_t>((*other)->entries.size()));
      for (const auto& [key, value] : (*other)->entries) dict.set(key, value);
    } else {
      const SequencePtr pairs = iterate(runtime, source);
      for (const Value& pair : pairs->items) {
        const SequencePtr items = iterate(runtime, pair);
        if (items->items.size() != 2) raise("{} needs pairs of a key and a value", function);
        dict.set(items->items[0], items->items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) dict.set(Value::text(name), value);
  return dict;
}

Value dict(Runtime& runtime, const Value&, const Arguments& arguments) {
  return Value::dict(collect(runtime, arguments, "dict"));
}

Value make_namespace(Runtime& runtime, const Value&, const Arguments& arguments) {
  const NamespacePtr space = runtime.make_namespace();
  for (const auto& [key, value] : collect(runtime, arguments, "namespace").entries) {
    space->set(to_text(runtime, key), value);
  }
  return Value(Value::Variant(space));
}

Value raise_exception(Runtime& runtime, const Value&, const Arguments& arguments) {
  const BoundArguments bound("raise_exception", arguments, {"message"});
  raise("{}", to_text(runtime, bound.required(0)));
}

// Local time without a zone, as transformers passes it (a naive datetime.now): %z and %Z write
// nothing. Only directives of fixed, small width.
Value strftime_now(Runtime& runtime, const Value&, const Arguments& arguments) {
  const BoundArguments bound("strftime_now", arguments, {"format"});
  const std::string& asked = bound.text(0);
  constexpr std::string_view kDirectives = "aAbBcdDeFHIjmMnprRSTtuUVwWxXyYzZ%";
  if (asked.size() > 200) raise("the format of strftime_now is limited to 200 bytes");
  std::string format;
  for (size_t at = 0; at < asked.size();) {
    if (asked[at] != '%') {
      format += asked[at++];
      continue;
    }
    size_t letter = at + 1;
    if (letter < asked.size() && asked[letter] == '-') ++letter;
    if (letter >= asked.size() || kDirectives.find(asked[letter]) == std::string_view::npos) {
      raise("'{}' is not a format that strftime_now knows", asked.substr(at, 3));
    }
    if (asked[letter] != 'z' && asked[letter] != 'Z') format += asked.substr(at, letter + 1 - at);
    at = letter + 1;
  }
  if (format.empty()) return Value::text("");
  const std::time_t seconds = std::chrono::system_clock::to_time_t(runtime.now);
  std::tm local{};
  localtime_r(&seconds, &local);
  char buffer[8192];  // 100 directives of at most 40 bytes
  const size_t written = std::strftime(buffer, sizeof(buffer), format.c_str(), &local);
  return Value::text(std::string(buffer, written));
}

Value make_global(std::string_view name, Function function) {
  return Value(Value::Variant(CallablePtr(std::make_shared<GlobalFunction>(name, function))));
}

}  // namespace

const std::vector<std::pair<std::string_view, Value>>& global_functions() {
  static const std::vector<std::pair<std::string_view, Value>> kGlobals = [] {
    std::vector<std::pair<std::string_view, Value>> globals;
    for (const auto& [name, function] :
         std::initializer_list<NamedFunction>{{"range", range},
                                              {"dict", dict},
                                              {"namespace", make_namespace},
                                              {"raise_exception", raise_exception},
                                              {"strftime_now", strftime_now}}) {
      globals.emplace_back(name, make_global(name, function));
    }
    return globals;
  }();
  return kGlobals;
}

}  // namespace crible::jinja
