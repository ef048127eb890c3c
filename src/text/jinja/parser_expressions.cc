// The expression half of the parser. Precedence, loosest first: if-else, or, and, not, comparison,
// + -, ~, * / // %, ** (which groups to the left here), unary + -, postfix, filters and tests.
#include <array>

#include "text/jinja/filters.h"
#include "text/jinja/parser.h"
#include "text/jinja/template_error.h"

namespace crible::jinja {
namespace {

constexpr int kMaxTreeDepth = 200;

int depth_of(const ExprPtr& expr) {
  return expr ? expr->depth : 0;
}

template <typename... Rest>
int deepest(const ExprPtr& first, const Rest&... rest) {
  int depth = depth_of(first);
  ((depth = std::max(depth, depth_of(rest))), ...);
  return depth;
}

int deepest(const std::vector<ExprPtr>& items) {
  int depth = 0;
  for (const ExprPtr& item : items) depth = std::max(depth, depth_of(item));
  return depth;
}

int deepest(const CallArguments& arguments) {
  int depth = deepest(arguments.positional);
  for (const auto& [name, value] : arguments.named) depth = std::max(depth, depth_of(value));
  return depth;
}

template <typename Node>
ExprPtr make(int line, int depth_below, Node node) {
  if (depth_below >= kMaxTreeDepth) {
    raise_at(line, ErrorCode::kResourceExhausted, "an expression nests more than {} levels", kMaxTreeDepth);
  }
  return std::make_unique<const Expr>(Expr{line, depth_below + 1, std::move(node)});
}

ExprPtr make_binary(int line, BinaryOperator op, ExprPtr left, ExprPtr right) {
  const int depth = deepest(left, right);
  return make(line, depth, Binary{op, std::move(left), std::move(right)});
}

}  // namespace

bool Parser::at_tuple_end() const {
  return current().kind == TokenKind::kVariableEnd || current().kind == TokenKind::kBlockEnd ||
         at_operator(")");
}

ExprPtr Parser::parse_tuple(bool with_conditional) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (!at_tuple_end()) {
    items.push_back(with_conditional ? parse_expression() : parse_or());
    if (!skip_operator(",")) break;
    is_tuple = true;
  }
  if (items.empty()) reject_token("an expression");
  if (!is_tuple) return std::move(items[0]);
  const int depth = deepest(items);
  return make(line, depth, ListLiteral{std::move(items), true});
}

ExprPtr Parser::parse_expression() {
  const Nesting nesting(*this);
  const int line = current().line;
  const size_t known_before = unknown_.size();
  ExprPtr value = parse_or();
  while (skip_name("if")) {
    ExprPtr condition = parse_or();
    ExprPtr otherwise = skip_name("else") ? parse_expression() : nullptr;
    const int depth = deepest(value, condition, otherwise);
    value = make(line, depth, Conditional{std::move(condition), std::move(value), std::move(otherwise)});
    unknown_.resize(known_before);
  }
  return value;
}

ExprPtr Parser::parse_or() {
  ExprPtr left = parse_and();
  while (at_name("or")) {
    const int line = take().line;
    ExprPtr right = parse_and();
    const int depth = deepest(left, right);
    left = make(line, depth, Logic{false, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_and() {
  ExprPtr left = parse_not();
  while (at_name("and")) {
    const int line = take().line;
    ExprPtr right = parse_not();
    const int depth = deepest(left, right);
    left = make(line, depth, Logic{true, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nesting nesting(*this);
  const int line = take().line;
  ExprPtr operand = parse_not();
  const int depth = deepest(operand);
  return make(line, depth, Unary{UnaryOperator::kNot, std::move(operand)});
}

ExprPtr Parser::parse_compare() {
  static constexpr std::array<std::pair<std::string_view, Comparison>, 6> kComparisons = {
      {{"==", Comparison::kEqual},
       {"!=", Comparison::kNotEqual},
       {"<", Comparison::kLess},
       {"<=", Comparison::kLessEqual},
       {">", Comparison::kGreater},
       {">=", Comparison::kGreaterEqual}}};
  const int line = current().line;
  ExprPtr first = parse_sum();
  std::vector<std::pair<Comparison, ExprPtr>> rest;
  int depth = deepest(first);
  while (true) {
    Comparison comparison = Comparison::kIn;
    const auto found = std::find_if(kComparisons.begin(), kComparisons.end(),
                                    [this](const auto& entry) { return at_operator(entry.first); });
    if (found != kComparisons.end()) {
      comparison = found->second;
      take();
    } else if (at_name("not") && look_ahead().is(TokenKind::kName, "in")) {
      comparison = Comparison::kNotIn;
      take();
      take();
    } else if (!skip_name("in")) {
      break;
    }
    rest.emplace_back(comparison, parse_sum());
    depth = std::max(depth, depth_of(rest.back().second));
  }
  if (rest.empty()) return first;
  return make(line, depth, Compare{std::move(first), std::move(rest)});
}

ExprPtr Parser::parse_sum() {
  ExprPtr left = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    const Token op = take();
    const BinaryOperator which = op.text == "+" ? BinaryOperator::kAdd : BinaryOperator::kSubtract;
    ExprPtr right = parse_concat();
    left = make_binary(op.line, which, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_concat() {
  const int line = current().line;
  std::vector<ExprPtr> parts;
  parts.push_back(parse_product());
  while (skip_operator("~")) parts.push_back(parse_product());
  if (parts.size() == 1) return std::move(parts[0]);
  const int depth = deepest(parts);
  return make(line, depth, Concat{std::move(parts)});
}

ExprPtr Parser::parse_product() {
  static constexpr std::array<std::pair<std::string_view, BinaryOperator>, 4> kProducts = {
      {{"*", BinaryOperator::kMultiply},
       {"/", BinaryOperator::kDivide},
       {"//", BinaryOperator::kFloorDivide},
       {"%", BinaryOperator::kModulo}}};
  ExprPtr left = parse_power();
  while (true) {
    const auto found = std::find_if(kProducts.begin(), kProducts.end(),
                                    [this](const auto& entry) { return at_operator(entry.first); });
    if (found == kProducts.end()) return left;
    const int line = take().line;
    ExprPtr right = parse_power();
    left = make_binary(line, found->second, std::move(left), std::move(right));
  }
}

ExprPtr Parser::parse_power() {
  ExprPtr left = parse_unary(true);
  while (at_operator("**")) {
    const int line = take().line;
    ExprPtr right = parse_unary(true);
    left = make_binary(line, BinaryOperator::kPower, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filters) {
  ExprPtr value;
  if (at_operator("-") || at_operator("+")) {
    const Nesting nesting(*this);
    const Token op = take();
    ExprPtr operand = parse_unary(false);
    const int depth = deepest(operand);
    value =
        make(op.line, depth,
             Unary{op.text == "-" ? UnaryOperator::kNegative : UnaryOperator::kPositive, std::move(operand)});
  } else {
    value = parse_primary();
  }
  value = parse_postfix(std::move(value));
  return with_filters ? parse_filters_and_tests(std::move(value)) : std::move(value);
}

ExprPtr Parser::parse_primary() {
  const int line = current().line;
  switch (current().kind) {
    case TokenKind::kName: return parse_name();
    case TokenKind::kString: {
      std::string text = take().text;
      while (current().kind == TokenKind::kString) text += take().text;
      return make(line, 0, Literal{Value::text(std::move(text))});
    }
    case TokenKind::kInteger: return make(line, 0, Literal{Value::integer(take().integer)});
    case TokenKind::kFloat: return make(line, 0, Literal{Value::floating(take().real)});
    default: break;
  }
  if (skip_operator("(")) return parse_parenthesized();
  if (skip_operator("[")) return parse_list();
  if (skip_operator("{")) return parse_dict();
  reject_token("an expression");
}

ExprPtr Parser::parse_name() {
  const Token token = take();
  const std::string& name = token.text;
  if (name == "true" || name == "True") return make(token.line, 0, Literal{Value::boolean(true)});
  if (name == "false" || name == "False") return make(token.line, 0, Literal{Value::boolean(false)});
  if (name == "none" || name == "None") return make(token.line, 0, Literal{Value::none()});
  if (name == "loop") {
    for (For* loop : open_loops_) loop->uses_loop = true;
  }
  for (MacroDefinition* macro : open_macros_) {
    macro->uses_varargs |= name == "varargs";
    macro->uses_kwargs |= name == "kwargs";
    macro->uses_caller |= name == "caller";
  }
  const Symbol symbol = intern(name);
  return make(token.line, 0, Name{symbol, tree_.symbols[symbol]});
}

ExprPtr Parser::parse_parenthesized() {
  const int line = current().line;
  if (skip_operator(")")) return make(line, 0, Literal{Value::tuple({})});
  ExprPtr inside = parse_tuple(true);
  expect_operator(")");
  return inside;
}

ExprPtr Parser::parse_list() {
  const int line = current().line;
  std::vector<ExprPtr> items;
  while (!at_operator("]")) {
    items.push_back(parse_expression());
    if (!skip_operator(",")) break;
  }
  expect_operator("]");
  const int depth = deepest(items);
  return make(line, depth, ListLiteral{std::move(items), false});
}

ExprPtr Parser::parse_dict() {
  const int line = current().line;
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
  int depth = 0;
  while (!at_operator("}")) {
    ExprPtr key = parse_expression();
    expect_operator(":");
    ExprPtr value = parse_expression();
    depth = std::max(depth, deepest(key, value));
    entries.emplace_back(std::move(key), std::move(value));
    if (!skip_operator(",")) break;
  }
  expect_operator("}");
  return make(line, depth, DictLiteral{std::move(entries)});
}

ExprPtr Parser::parse_postfix(ExprPtr object) {
  while (true) {
    const int line = current().line;
    const int depth = deepest(object);
    if (skip_operator(".")) {
      if (current().kind == TokenKind::kInteger) {
        ExprPtr key = make(line, 0, Literal{Value::integer(take().integer)});
        object = make(line, depth, Subscript{std::move(object), std::move(key)});
        continue;
      }
      std::string name = expect(TokenKind::kName, "a name after '.'").text;
      object = make(line, depth,
                    Attribute{std::move(object), std::make_shared<const std::string>(std::move(name))});
    } else if (skip_operator("[")) {
      object = parse_subscript(std::move(object));
    } else if (at_operator("(")) {
      CallArguments arguments = parse_arguments();
      const int below = std::max(depth, deepest(arguments));
      object = make(line, below, Call{std::move(object), std::move(arguments)});
    } else {
      return object;
    }
  }
}

ExprPtr Parser::parse_subscript(ExprPtr object) {
  const int line = current().line;
  std::vector<ExprPtr> keys;
  ExprPtr start = at_operator(":") ? nullptr : parse_expression();
  if (at_operator(":")) return parse_slice(std::move(object), std::move(start), line);
  keys.push_back(std::move(start));
  while (skip_operator(",")) keys.push_back(parse_expression());
  expect_operator("]");
  ExprPtr key = std::move(keys[0]);
  if (keys.size() > 1) {
    keys[0] = std::move(key);
    const int depth = deepest(keys);
    key = make(line, depth, ListLiteral{std::move(keys), true});
  }
  const int depth = deepest(object, key);
  return make(line, depth, Subscript{std::move(object), std::move(key)});
}

ExprPtr Parser::parse_slice(ExprPtr object, ExprPtr start, int line) {
  const auto bound = [this]() -> ExprPtr {
    if (!skip_operator(":") || at_operator(":") || at_operator("]")) return nullptr;
    return parse_expression();
  };
  ExprPtr stop = bound();
  ExprPtr step = bound();
  expect_operator("]");
  const int depth = deepest(object, start, stop, step);
  return make(line, depth, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)});
}

CallArguments Parser::parse_arguments() {
  expect_operator("(");
  CallArguments arguments;
  while (!at_operator(")")) {
    if (at_operator("*") || at_operator("**")) {
      raise_at(current().line, ErrorCode::kUnsupported, "* and ** arguments are not supported");
    }
    if (current().kind == TokenKind::kName && look_ahead().is(TokenKind::kOperator, "=")) {
      std::string name = take().text;
      take();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else if (!arguments.named.empty()) {
      reject_token("a named argument after another one");
    } else {
      arguments.positional.push_back(parse_expression());
    }
    if (!skip_operator(",")) break;
  }
  expect_operator(")");
  return arguments;
}

ExprPtr Parser::parse_filters_and_tests(ExprPtr input) {
  while (true) {
    if (at_operator("|")) {
      input = parse_filter(std::move(input));
    } else if (at_name("is")) {
      input = parse_test(std::move(input));
    } else if (at_operator("(")) {
      const int line = current().line;
      CallArguments arguments = parse_arguments();
      const int depth = std::max(deepest(input), deepest(arguments));
      input = make(line, depth, Call{std::move(input), std::move(arguments)});
    } else {
      return input;
    }
  }
}

// At "|", or in a filter block at the first filter's name.
ExprPtr Parser::parse_filter(ExprPtr input) {
  skip_operator("|");
  const Token token = expect(TokenKind::kName, "the name of a filter");
  std::string name = token.text;
  while (skip_operator(".")) name += "." + expect(TokenKind::kName, "a name after '.'").text;
  CallArguments arguments;
  if (at_operator("(")) arguments = parse_arguments();
  return make_apply(token.line, false, std::move(name), std::move(input), std::move(arguments));
}

ExprPtr Parser::parse_test(ExprPtr input) {
  const int line = take().line;
  const bool negated = skip_name("not");
  std::string name = expect(TokenKind::kName, "the name of a test").text;
  while (skip_operator(".")) name += "." + expect(TokenKind::kName, "a name after '.'").text;
  CallArguments arguments;
  const bool argument_follows =
      (current().kind == TokenKind::kName && !at_name("else") && !at_name("or") && !at_name("and")) ||
      current().kind == TokenKind::kString || current().kind == TokenKind::kInteger ||
      current().kind == TokenKind::kFloat || at_operator("[") || at_operator("{");
  if (at_operator("(")) {
    arguments = parse_arguments();
  } else if (at_name("is")) {
    reject_token("the end of the test; tests cannot be chained");
  } else if (argument_follows) {
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExprPtr test = make_apply(line, true, std::move(name), std::move(input), std::move(arguments));
  if (!negated) return test;
  const int depth = deepest(test);
  return make(line, depth, Unary{UnaryOperator::kNot, std::move(test)});
}

ExprPtr Parser::make_apply(int line, bool is_test, std::string name, ExprPtr input, CallArguments arguments) {
  const Function function = is_test ? find_test(name) : find_filter(name);
  if (function == nullptr) {
    unknown_.push_back({line, fmt::format("there is no {} named '{}'", is_test ? "test" : "filter", name)});
  }
  const int depth = std::max(deepest(input), deepest(arguments));
  return make(line, depth, Apply{is_test, std::move(name), function, std::move(input), std::move(arguments)});
}

}  // namespace crible::jinja
