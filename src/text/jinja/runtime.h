// State of one render that operations outside the interpreter need: the budget, the time, and the
// namespaces to clear at the end. One per render, used by one thread.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/budget.h"
#include "text/jinja/loop.h"
#include "text/jinja/value.h"

namespace crible::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Runtime {
 public:
  Runtime(const Limits& limits, std::chrono::system_clock::time_point now) : budget(limits), now(now) {}
  // Namespaces and loops can hold each other in a cycle, which reference counts do not free.
  ~Runtime() {
    for (auto& space : namespaces_) space->attributes.clear();
    for (auto& loop : loops_) loop->last_changed.reset();
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  NamespacePtr make_namespace() {
    namespaces_.push_back(std::make_shared<Namespace>());
    return namespaces_.back();
  }

  // Called when a loop starts to remember values.
  void retain(LoopPtr loop) { loops_.push_back(std::move(loop)); }

  Budget budget;
  const std::chrono::system_clock::time_point now;

 private:
  std::vector<NamespacePtr> namespaces_;
  std::vector<LoopPtr> loops_;
};

// Anything a template can call: a global function, a bound method, a macro.
class Callable {
 public:
  virtual ~Callable() = default;
  virtual Value call(Runtime& runtime, const Arguments& arguments) const = 0;
  virtual std::string name() const = 0;
  // Nesting of the values it holds (see Value::depth).
  virtual uint32_t depth() const { return 0; }
};

using Function = Value (*)(Runtime& runtime, const Value& input, const Arguments& arguments);

}  // namespace crible::jinja
