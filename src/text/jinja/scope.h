// Variables visible at a point of a render. Loops, macros and with blocks open a scope; an if does
// not. A scope in which a macro was defined outlives its block, because the macro reads through it.
#pragma once

#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace crible::jinja {

class Scope {
 public:
  explicit Scope(Scope* parent) : parent_(parent) {}

  // nullptr when no scope from here outwards has it.
  const Value* find(Symbol symbol) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->parent_) {
      for (const auto& [name, value] : scope->variables_) {
        if (name == symbol) return &value;
      }
    }
    return nullptr;
  }

  void set(Symbol symbol, Value value) {
    for (auto& [name, current] : variables_) {
      if (name == symbol) {
        current = std::move(value);
        return;
      }
    }
    variables_.emplace_back(symbol, std::move(value));
  }

  // Marks this scope and those around it as read by a macro.
  void capture() {
    for (Scope* scope = this; scope != nullptr && !scope->captured_; scope = scope->parent_) {
      scope->captured_ = true;
    }
  }
  bool captured() const { return captured_; }
  void clear() { variables_.clear(); }

 private:
  Scope* const parent_;
  std::vector<std::pair<Symbol, Value>> variables_;
  bool captured_ = false;
};

}  // namespace crible::jinja
