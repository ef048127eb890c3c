#include "text/jinja/access.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {

Value Interpreter::evaluate(const Expr& expr) {
  const Budget::DepthGuard guard(runtime_.budget);
  runtime_.budget.charge(1);
  line_ = expr.line;
  return std::visit([this](const auto& node) { return visit(node); }, expr.node);
}

Value Interpreter::evaluate_or_none(const ExprPtr& expr) {
  return expr ? evaluate(*expr) : Value::none();
}

Value Interpreter::visit(const Literal& node) {
  return node.value;
}

Value Interpreter::visit(const Name& node) {
  if (const Value* value = scope_->find(node.symbol)) return *value;
  return Value::undefined(node.text);
}

Value Interpreter::visit(const ListLiteral& node) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) items.push_back(evaluate(*item));
  return node.tuple ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

Value Interpreter::visit(const DictLiteral& node) {
  Dict dict;
  for (const auto& [key, value] : node.entries) {
    Value evaluated_key = evaluate(*key);
    runtime_.budget.charge(evaluated_key.weight());
    dict.set(std::move(evaluated_key), evaluate(*value));
  }
  return Value::dict(std::move(dict));
}

Value Interpreter::visit(const Unary& node) {
  const Value operand = evaluate(*node.operand);
  switch (node.op) {
    case UnaryOperator::kNot: return Value::boolean(!operand.truthy());
    case UnaryOperator::kNegative: return negate(operand);
    default: return positive(operand);
  }
}

Value Interpreter::visit(const Binary& node) {
  const Value left = evaluate(*node.left);
  const Value right = evaluate(*node.right);
  return apply(runtime_, node.op, left, right);
}

Value Interpreter::visit(const Concat& node) {
  std::string out;
  for (const ExprPtr& part : node.parts) {
    append_text(runtime_, out, evaluate(*part));
    runtime_.budget.check_text(static_cast<int64_t>(out.size()));
  }
  return Value::text(std::move(out));
}

Value Interpreter::visit(const Logic& node) {
  Value left = evaluate(*node.left);
  if (left.truthy() != node.is_and) return left;
  return evaluate(*node.right);
}

Value Interpreter::visit(const Compare& node) {
  Value left = evaluate(*node.first);
  for (const auto& [comparison, operand] : node.rest) {
    Value right = evaluate(*operand);
    if (!compare(runtime_, comparison, left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::visit(const Conditional& node) {
  if (evaluate(*node.condition).truthy()) return evaluate(*node.then);
  return node.otherwise ? evaluate(*node.otherwise) : Value();
}

Value Interpreter::visit(const Attribute& node) {
  return get_attribute(runtime_, evaluate(*node.object), node.name);
}

Value Interpreter::visit(const Subscript& node) {
  const Value object = evaluate(*node.object);
  return get_item(runtime_, object, evaluate(*node.key));
}

Value Interpreter::visit(const Slice& node) {
  const Value object = evaluate(*node.object);
  const Value start = evaluate_or_none(node.start);
  const Value stop = evaluate_or_none(node.stop);
  return get_slice(runtime_, object, start, stop, evaluate_or_none(node.step));
}

Value Interpreter::visit(const Call& node) {
  return call(node, nullptr);
}

Value Interpreter::call(const Call& node, const Value* caller) {
  const Value callee = evaluate(*node.callee);
  Arguments arguments = evaluate(node.arguments);
  if (caller != nullptr) arguments.named.emplace_back("caller", *caller);
  if (const Undefined* undefined = callee.get<Undefined>()) {
    raise("'{}' is undefined, so it cannot be called", undefined->name ? *undefined->name : "the value");
  }
  const CallablePtr* callable = callee.get<CallablePtr>();
  if (callable == nullptr) raise("a {} cannot be called", callee.type_name());
  return (*callable)->call(runtime_, arguments);
}

Arguments Interpreter::evaluate(const CallArguments& arguments) {
  Arguments out;
  out.positional.reserve(arguments.positional.size());
  for (const ExprPtr& value : arguments.positional) out.positional.push_back(evaluate(*value));
  for (const auto& [name, value] : arguments.named) out.named.emplace_back(name, evaluate(*value));
  return out;
}

Value Interpreter::visit(const Apply& node) {
  const Value input = node.input ? evaluate(*node.input) : captured_;
  if (node.function == nullptr) {
    raise("there is no {} named '{}'", node.is_test ? "test" : "filter", node.name);
  }
  const Arguments arguments = evaluate(node.arguments);
  return node.function(runtime_, input, arguments);
}

}  // namespace crible::jinja
