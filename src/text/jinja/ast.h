// The tree of a parsed template. Immutable after parsing, shared by all renders. Names are symbols:
// indices into Tree::symbols.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<const Expr>;
using Body = std::vector<Stmt>;
using Symbol = uint32_t;

// f(a, b, name=c)
struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Literal {
  Value value;
};
struct Name {
  Symbol symbol;
  Text text;
};
struct ListLiteral {
  std::vector<ExprPtr> items;
  bool tuple;
};
struct DictLiteral {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
enum class UnaryOperator : uint8_t { kNot, kNegative, kPositive };
struct Unary {
  UnaryOperator op;
  ExprPtr operand;
};
struct Binary {
  BinaryOperator op;
  ExprPtr left;
  ExprPtr right;
};
struct Concat {
  std::vector<ExprPtr> parts;
};
struct Logic {
  bool is_and;
  ExprPtr left;
  ExprPtr right;
};
// a < b < c: every operand is evaluated once.
struct Compare {
  ExprPtr first;
  std::vector<std::pair<Comparison, ExprPtr>> rest;
};
struct Conditional {
  ExprPtr condition;
  ExprPtr then;
  ExprPtr otherwise;  // null: undefined
};
struct Attribute {
  ExprPtr object;
  Text name;
};
struct Subscript {
  ExprPtr object;
  ExprPtr key;
};
// Null bounds are absent.
struct Slice {
  ExprPtr object;
  ExprPtr start;
  ExprPtr stop;
  ExprPtr step;
};
struct Call {
  ExprPtr callee;
  CallArguments arguments;
};
// A filter or test. `function` is null when there is none of that name: an error when reached.
struct Apply {
  bool is_test;
  std::string name;
  Function function;
  ExprPtr input;  // null: the text that a filter or set block captured
  CallArguments arguments;
};

struct Expr {
  int line;
  int depth;  // of the tree below, so that evaluation and destruction cannot exhaust the stack
  std::variant<Literal, Name, ListLiteral, DictLiteral, Unary, Binary, Concat, Logic, Compare, Conditional,
               Attribute, Subscript, Slice, Call, Apply>
      node;
};

// What set and for assign to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  Symbol symbol = 0;
  std::string attribute;  // empty: the name itself
  std::vector<Target> parts;
  bool tuple = false;
};

// Parameters and body of a macro or call block.
struct MacroDefinition {
  std::string name;
  std::vector<std::pair<Symbol, ExprPtr>> parameters;  // null: no default
  std::vector<std::string> parameter_names;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
  Body body;
};

struct Data {
  std::string text;
};
struct Output {
  ExprPtr value;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExprPtr iterable;
  ExprPtr filter;  // null: none
  bool uses_loop = false;
  Body body;
  Body otherwise;
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  ExprPtr filter;  // null: none
  Body body;
};
struct FilterBlock {
  ExprPtr filter;
  Body body;
};
struct Macro {
  Symbol symbol;
  std::shared_ptr<const MacroDefinition> definition;
};
struct CallBlock {
  ExprPtr call;  // a Call
  std::shared_ptr<const MacroDefinition> caller;
};
// with and generation: a scope of their own.
struct Scoped {
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};
struct LoopControl {
  bool is_break;
};

struct Stmt {
  int line;
  std::variant<Data, Output, If, For, Set, SetBlock, FilterBlock, Macro, CallBlock, Scoped, LoopControl> node;
};

struct Tree {
  Body body;
  std::vector<Text> symbols;
  // Names with a meaning of their own.
  Symbol loop = 0;
  Symbol caller = 0;
  Symbol varargs = 0;
  Symbol kwargs = 0;
};

}  // namespace crible::jinja
