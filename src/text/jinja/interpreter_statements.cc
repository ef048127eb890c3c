#include <algorithm>

#include "text/jinja/access.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

class MacroCallable final : public Callable {
 public:
  MacroCallable(Interpreter& interpreter, std::shared_ptr<const MacroDefinition> definition, Scope* closure)
      : interpreter_(interpreter), definition_(std::move(definition)), closure_(closure) {}

  Value call(Runtime&, const Arguments& arguments) const override {
    return interpreter_.call_macro(*definition_, closure_, arguments);
  }
  std::string name() const override { return definition_->name; }

 private:
  Interpreter& interpreter_;  // macros do not outlive their render
  const std::shared_ptr<const MacroDefinition> definition_;
  Scope* const closure_;  // captured, so kept by the interpreter
};

}  // namespace

Interpreter::Interpreter(const Tree& tree, Runtime& runtime) : tree_(tree), runtime_(runtime) {}

// A namespace in one scope may hold what another scope holds; empty all before any goes.
Interpreter::~Interpreter() {
  for (const auto& scope : retained_) scope->clear();
  root_.clear();
}

std::string Interpreter::render() {
  execute(tree_.body);
  return std::move(output_);
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  const Budget::DepthGuard guard(runtime_.budget);
  for (const Stmt& statement : body) {
    runtime_.budget.charge(1);
    line_ = statement.line;
    const Flow flow = std::visit([this](const auto& node) { return run(node); }, statement.node);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Interpreter::check_output() {
  runtime_.budget.check_text(static_cast<int64_t>(output_.size()));
}

Interpreter::Flow Interpreter::run(const Data& node) {
  runtime_.budget.charge_text(static_cast<int64_t>(node.text.size()));
  output_ += node.text;
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Output& node) {
  const Value value = evaluate(*node.value);
  append_text(runtime_, output_, value);
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const If& node) {
  for (const auto& [condition, body] : node.branches) {
    if (evaluate(*condition).truthy()) return execute(body);
  }
  return execute(node.otherwise);
}

// All elements that the loop's filter lets pass, for loops that ask for their length or neighbours.
SequencePtr Interpreter::filtered(const For& node, const SequencePtr& items) {
  std::vector<Value> kept;
  ScopeGuard scope(*this, scope_);
  for (const Value& item : items->items) {
    scope.renew();
    assign(node.target, item);
    if (evaluate(*node.filter).truthy()) kept.push_back(item);
  }
  return *Value::list(std::move(kept)).get<SequencePtr>();
}

Interpreter::Flow Interpreter::run(const For& node) {
  SequencePtr items = iterate(runtime_, evaluate(*node.iterable));
  if (node.filter && node.uses_loop) items = filtered(node, items);
  LoopPtr loop;
  if (node.uses_loop) {
    loop = std::make_shared<LoopState>();
    loop->items = items;
  }
  // Jinja takes the else branch when no turn reached its end, be it that there was none.
  bool completed_a_turn = false;
  {
    ScopeGuard scope(*this, scope_);
    Flow flow = Flow::kNext;
    for (size_t i = 0; i < items->items.size() && flow != Flow::kBreak; ++i) {
      runtime_.budget.charge(1);
      scope.renew();
      if (loop) {
        loop->index0 = static_cast<int64_t>(i);
        scope_->set(tree_.loop, Value(Value::Variant(loop)));
      }
      assign(node.target, items->items[i]);
      if (node.filter && !loop && !evaluate(*node.filter).truthy()) continue;
      flow = execute(node.body);
      completed_a_turn |= flow == Flow::kNext;
    }
  }
  return completed_a_turn ? Flow::kNext : execute(node.otherwise);
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.tuple) {
    const SequencePtr parts = iterate(runtime_, value);
    if (parts->items.size() != target.parts.size()) {
      raise("{} values cannot be assigned to {} names", parts->items.size(), target.parts.size());
    }
    for (size_t i = 0; i < target.parts.size(); ++i) assign(target.parts[i], parts->items[i]);
  } else if (target.attribute.empty()) {
    scope_->set(target.symbol, value);
  } else {
    const Value* object = scope_->find(target.symbol);
    const NamespacePtr* space = object != nullptr ? object->get<NamespacePtr>() : nullptr;
    if (space == nullptr) {
      raise("'{}' is not a namespace, so its attribute '{}' cannot be assigned",
            *tree_.symbols[target.symbol], target.attribute);
    }
    runtime_.budget.charge(static_cast<int64_t>((*space)->attributes.size()) / 8);
    (*space)->set(target.attribute, value);
  }
}

Interpreter::Flow Interpreter::run(const Set& node) {
  assign(node.target, evaluate(*node.value));
  return Flow::kNext;
}

std::string Interpreter::capture(const Body& body) {
  std::string outer = std::exchange(output_, {});
  const ScopeGuard scope(*this, scope_);
  execute(body);
  return std::exchange(output_, std::move(outer));
}

Value Interpreter::apply_to(const Expr& filter, std::string captured) {
  Value outer = std::exchange(captured_, Value::text(std::move(captured)));
  Value result = evaluate(filter);
  captured_ = std::move(outer);
  return result;
}

Interpreter::Flow Interpreter::run(const SetBlock& node) {
  std::string captured = capture(node.body);
  assign(node.target,
         node.filter ? apply_to(*node.filter, std::move(captured)) : Value::text(std::move(captured)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const FilterBlock& node) {
  append_text(runtime_, output_, apply_to(*node.filter, capture(node.body)));
  check_output();
  return Flow::kNext;
}

Value Interpreter::make_macro(const std::shared_ptr<const MacroDefinition>& definition) {
  scope_->capture();
  return Value(Value::Variant(CallablePtr(std::make_shared<MacroCallable>(*this, definition, scope_))));
}

Interpreter::Flow Interpreter::run(const Macro& node) {
  scope_->set(node.symbol, make_macro(node.definition));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const CallBlock& node) {
  const Value caller = make_macro(node.caller);
  append_text(runtime_, output_, call(std::get<Call>(node.call->node), &caller));
  check_output();
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Scoped& node) {
  std::vector<Value> values;
  values.reserve(node.assignments.size());
  for (const auto& [target, value] : node.assignments) values.push_back(evaluate(*value));
  const ScopeGuard scope(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(node.assignments[i].first, values[i]);
  return execute(node.body);
}

Interpreter::Flow Interpreter::run(const LoopControl& node) {
  return node.is_break ? Flow::kBreak : Flow::kContinue;
}

// Into the current scope. Defaults may refer to the parameters before them.
void Interpreter::bind_parameters(const MacroDefinition& macro, const Arguments& arguments) {
  const size_t count = macro.parameters.size();
  const size_t given = std::min(count, arguments.positional.size());
  std::vector<bool> used(arguments.named.size(), false);
  for (size_t i = 0; i < count; ++i) {
    const auto& [symbol, fallback] = macro.parameters[i];
    if (i < given) {
      scope_->set(symbol, arguments.positional[i]);
      continue;
    }
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& named) {
      return named.first == macro.parameter_names[i];
    });
    if (found != arguments.named.end()) {
      used[static_cast<size_t>(found - arguments.named.begin())] = true;
      scope_->set(symbol, found->second);
    } else {
      scope_->set(symbol, fallback ? evaluate(*fallback) : Value::undefined(tree_.symbols[symbol]));
    }
  }
  if (macro.uses_varargs) {
    scope_->set(tree_.varargs, Value::tuple({arguments.positional.begin() + static_cast<int64_t>(given),
                                             arguments.positional.end()}));
  } else if (arguments.positional.size() > count) {
    raise("macro '{}' takes at most {} arguments, {} were given", macro.name, count,
          arguments.positional.size());
  }
  Dict rest;
  for (size_t i = 0; i < arguments.named.size(); ++i) {
    const auto& [name, value] = arguments.named[i];
    if (used[i]) continue;
    if (name == "caller" && macro.uses_caller) {
      scope_->set(tree_.caller, value);
    } else if (macro.uses_kwargs) {
      rest.set(Value::text(name), value);
    } else {
      raise("macro '{}' has no argument named '{}'", macro.name, name);
    }
  }
  if (macro.uses_kwargs) scope_->set(tree_.kwargs, Value::dict(std::move(rest)));
}

Value Interpreter::call_macro(const MacroDefinition& macro, Scope* closure, const Arguments& arguments) {
  const Budget::DepthGuard guard(runtime_.budget);
  const int called_at = line_;
  const ScopeGuard scope(*this, closure);
  if (macro.uses_caller) scope_->set(tree_.caller, Value::undefined(tree_.symbols[tree_.caller]));
  bind_parameters(macro, arguments);
  std::string outer = std::exchange(output_, {});
  execute(macro.body);
  line_ = called_at;
  return Value::text(std::exchange(output_, std::move(outer)));
}

}  // namespace crible::jinja
