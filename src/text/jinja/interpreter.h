// Walks the tree of a template and writes its output. One Interpreter per render, on one thread;
// the tree is shared and outlives it. Failures leave as TemplateError with the line reached.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"
#include "text/jinja/scope.h"

namespace crible::jinja {

class Interpreter {
 public:
  Interpreter(const Tree& tree, Runtime& runtime);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void define(Symbol symbol, Value value) { root_.set(symbol, std::move(value)); }
  std::string render();
  int line() const { return line_; }

  // For the macros it makes.
  Value call_macro(const MacroDefinition& macro, Scope* closure, const Arguments& arguments);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  class ScopeGuard;

  // Statements (interpreter_statements.cc).
  Flow execute(const Body& body);
  Flow run(const Data& node);
  Flow run(const Output& node);
  Flow run(const If& node);
  Flow run(const For& node);
  Flow run(const Set& node);
  Flow run(const SetBlock& node);
  Flow run(const FilterBlock& node);
  Flow run(const Macro& node);
  Flow run(const CallBlock& node);
  Flow run(const Scoped& node);
  Flow run(const LoopControl& node);
  void assign(const Target& target, const Value& value);
  SequencePtr filtered(const For& node, const SequencePtr& items);
  // The output of `body`, instead of writing it.
  std::string capture(const Body& body);
  Value apply_to(const Expr& filter, std::string captured);
  void check_output();
  void bind_parameters(const MacroDefinition& macro, const Arguments& arguments);

  // Expressions (interpreter_expressions.cc).
  Value evaluate(const Expr& expr);
  Value evaluate_or_none(const ExprPtr& expr);
  Value visit(const Literal& node);
  Value visit(const Name& node);
  Value visit(const ListLiteral& node);
  Value visit(const DictLiteral& node);
  Value visit(const Unary& node);
  Value visit(const Binary& node);
  Value visit(const Concat& node);
  Value visit(const Logic& node);
  Value visit(const Compare& node);
  Value visit(const Conditional& node);
  Value visit(const Attribute& node);
  Value visit(const Subscript& node);
  Value visit(const Slice& node);
  Value visit(const Call& node);
  Value visit(const Apply& node);
  Value call(const Call& node, const Value* caller);
  Arguments evaluate(const CallArguments& arguments);
  Value make_macro(const std::shared_ptr<const MacroDefinition>& definition);

  const Tree& tree_;
  Runtime& runtime_;
  Scope root_{nullptr};
  Scope* scope_ = &root_;
  std::vector<std::unique_ptr<Scope>> retained_;  // scopes that macros still read
  std::string output_;
  Value captured_;  // input of the innermost filter of a filter or set block
  int line_ = 1;
};

// Opens a scope for its lifetime.
class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, Scope* parent)
      : interpreter_(interpreter),
        outer_(interpreter.scope_),
        parent_(parent),
        scope_(std::make_unique<Scope>(parent)) {
    interpreter_.scope_ = scope_.get();
  }
  ~ScopeGuard() {
    interpreter_.scope_ = outer_;
    if (scope_->captured()) interpreter_.retained_.push_back(std::move(scope_));
  }
  // A new, empty scope in place of this one, for the next turn of a loop.
  void renew() {
    if (!scope_->captured()) return scope_->clear();
    interpreter_.retained_.push_back(std::exchange(scope_, std::make_unique<Scope>(parent_)));
    interpreter_.scope_ = scope_.get();
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Interpreter& interpreter_;
  Scope* const outer_;
  Scope* const parent_;
  std::unique_ptr<Scope> scope_;
};

}  // namespace crible::jinja
