// The statement half of the parser.
#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/parser.h"
#include "text/jinja/template_error.h"

namespace crible::jinja {

Body Parser::parse_body(EndTags end_tags) {
  const Nesting nesting(*this);
  Body body;
  while (current().kind != TokenKind::kEnd) {
    const int line = current().line;
    if (current().kind == TokenKind::kData) {
      body.push_back({line, Data{take().text}});
    } else if (current().kind == TokenKind::kVariableBegin) {
      take();
      body.push_back({line, Output{parse_tuple(true)}});
      expect(TokenKind::kVariableEnd, "'}}'");
    } else {
      take();  // kBlockBegin: the lexer emits nothing else here
      if (std::any_of(end_tags.begin(), end_tags.end(), [this](auto tag) { return at_name(tag); })) {
        return body;
      }
      body.push_back(parse_statement());
      expect(TokenKind::kBlockEnd, "'%}'");
    }
  }
  if (end_tags.size() > 0) reject_token(fmt::format("a {} tag", *(end_tags.end() - 1)));
  return body;
}

Stmt Parser::parse_statement() {
  const Token tag = expect(TokenKind::kName, "the name of a tag");
  using Parse = Stmt (Parser::*)(int);
  static constexpr std::array<std::pair<std::string_view, Parse>, 8> kTags = {
      {{"if", &Parser::parse_if},
       {"for", &Parser::parse_for},
       {"set", &Parser::parse_set},
       {"macro", &Parser::parse_macro},
       {"call", &Parser::parse_call_block},
       {"filter", &Parser::parse_filter_block},
       {"with", &Parser::parse_with},
       {"generation", &Parser::parse_generation}}};
  for (const auto& [name, parse] : kTags) {
    if (tag.text == name) return (this->*parse)(tag.line);
  }
  if (tag.text == "break" || tag.text == "continue") {
    if (loop_nesting_ == 0) {
      raise_at(tag.line, ErrorCode::kInvalidArgument, "'{}' stands outside a loop", tag.text);
    }
    return {tag.line, LoopControl{tag.text == "break"}};
  }
  for (const char* name : {"block", "extends", "include", "import", "from", "autoescape"}) {
    if (tag.text == name) {
      raise_at(tag.line, ErrorCode::kUnsupported, "the tag '{}' is not supported in chat templates", name);
    }
  }
  raise_at(tag.line, ErrorCode::kInvalidArgument, "unknown tag '{}'", tag.text);
}

std::string Parser::take_end_tag() {
  std::string name = take().text;
  expect(TokenKind::kBlockEnd, "'%}'");
  return name;
}

Stmt Parser::parse_if(int line) {
  If statement;
  const size_t known_before = unknown_.size();
  while (true) {
    ExprPtr condition = parse_tuple(false);
    expect(TokenKind::kBlockEnd, "'%}'");
    Body body = parse_body({"elif", "else", "endif"});
    statement.branches.emplace_back(std::move(condition), std::move(body));
    if (skip_name("elif")) continue;
    if (at_name("else")) {
      take_end_tag();
      statement.otherwise = parse_body({"endif"});
    }
    take();  // endif; its "%}" belongs to the caller
    unknown_.resize(known_before);
    return {line, std::move(statement)};
  }
}

Stmt Parser::parse_for(int line) {
  For statement;
  statement.target = parse_target(false);
  if (!skip_name("in")) reject_token("'in'");
  statement.iterable = parse_tuple(false);
  open_loops_.push_back(&statement);
  if (skip_name("if")) statement.filter = parse_expression();
  if (at_name("recursive")) {
    raise_at(line, ErrorCode::kUnsupported, "recursive loops are not supported; use a macro");
  }
  expect(TokenKind::kBlockEnd, "'%}'");
  ++loop_nesting_;
  statement.body = parse_body({"else", "endfor"});
  --loop_nesting_;
  open_loops_.pop_back();
  if (at_name("else")) {
    take_end_tag();
    statement.otherwise = parse_body({"endfor"});
  }
  take();
  return {line, std::move(statement)};
}

Target Parser::parse_single_target(bool with_attribute) {
  const Nesting nesting(*this);
  if (skip_operator("(")) {
    Target target = parse_target(with_attribute);
    expect_operator(")");
    return target;
  }
  const Token name = expect(TokenKind::kName, "a name to assign to");
  for (const char* reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (name.text == reserved) {
      raise_at(name.line, ErrorCode::kInvalidArgument, "'{}' cannot be assigned to", reserved);
    }
  }
  Target target;
  target.symbol = intern(name.text);
  if (with_attribute && skip_operator(".")) {
    target.attribute = expect(TokenKind::kName, "a name after '.'").text;
  }
  return target;
}

Target Parser::parse_target(bool with_attribute) {
  Target first = parse_single_target(with_attribute);
  if (!at_operator(",")) return first;
  Target tuple;
  tuple.tuple = true;
  tuple.parts.push_back(std::move(first));
  while (skip_operator(",")) {
    if (current().kind != TokenKind::kName && !at_operator("(")) break;
    if (at_name("in")) break;
    tuple.parts.push_back(parse_single_target(with_attribute));
  }
  return tuple;
}

Stmt Parser::parse_set(int line) {
  Target target = parse_target(true);
  if (skip_operator("=")) return {line, Set{std::move(target), parse_tuple(true)}};
  SetBlock statement;
  statement.target = std::move(target);
  while (at_operator("|")) statement.filter = parse_filter(std::move(statement.filter));
  expect(TokenKind::kBlockEnd, "'%}'");
  statement.body = parse_body({"endset"});
  take();
  return {line, std::move(statement)};
}

void Parser::parse_parameters(MacroDefinition& macro) {
  expect_operator("(");
  bool defaults = false;
  while (!at_operator(")")) {
    const Token name = expect(TokenKind::kName, "the name of a parameter");
    ExprPtr value;
    if (skip_operator("=")) {
      value = parse_expression();
      defaults = true;
    } else if (defaults) {
      raise_at(name.line, ErrorCode::kInvalidArgument,
               "parameter '{}' needs a default, as the one before it has one", name.text);
    }
    macro.parameters.emplace_back(intern(name.text), std::move(value));
    macro.parameter_names.push_back(name.text);
    if (!skip_operator(",")) break;
  }
  expect_operator(")");
}

// A macro's body is no part of the loop around it: break cannot leave it.
void Parser::parse_macro_body(MacroDefinition& macro, EndTags end_tags) {
  expect(TokenKind::kBlockEnd, "'%}'");
  open_macros_.push_back(&macro);
  const int loops_outside = std::exchange(loop_nesting_, 0);
  macro.body = parse_body(end_tags);
  loop_nesting_ = loops_outside;
  open_macros_.pop_back();
  take();
}

Stmt Parser::parse_macro(int line) {
  auto macro = std::make_shared<MacroDefinition>();
  macro->name = expect(TokenKind::kName, "the name of the macro").text;
  const Symbol symbol = intern(macro->name);
  parse_parameters(*macro);
  parse_macro_body(*macro, {"endmacro"});
  return {line, Macro{symbol, std::move(macro)}};
}

Stmt Parser::parse_call_block(int line) {
  auto caller = std::make_shared<MacroDefinition>();
  caller->name = "caller";
  if (at_operator("(")) parse_parameters(*caller);
  ExprPtr call = parse_expression();
  if (!std::holds_alternative<Call>(call->node)) {
    raise_at(line, ErrorCode::kInvalidArgument, "a call block needs a call of a macro");
  }
  parse_macro_body(*caller, {"endcall"});
  return {line, CallBlock{std::move(call), std::move(caller)}};
}

Stmt Parser::parse_filter_block(int line) {
  FilterBlock statement;
  statement.filter = parse_filter(nullptr);
  while (at_operator("|")) statement.filter = parse_filter(std::move(statement.filter));
  expect(TokenKind::kBlockEnd, "'%}'");
  statement.body = parse_body({"endfilter"});
  take();
  return {line, std::move(statement)};
}

Stmt Parser::parse_with(int line) {
  Scoped statement;
  while (current().kind != TokenKind::kBlockEnd) {
    Target target = parse_target(false);
    expect_operator("=");
    statement.assignments.emplace_back(std::move(target), parse_expression());
    if (!skip_operator(",")) break;
  }
  expect(TokenKind::kBlockEnd, "'%}'");
  statement.body = parse_body({"endwith"});
  take();
  return {line, std::move(statement)};
}

// Marks what the model wrote, for training; for inference it only delimits.
Stmt Parser::parse_generation(int line) {
  Scoped statement;
  expect(TokenKind::kBlockEnd, "'%}'");
  statement.body = parse_body({"endgeneration"});
  take();
  return {line, std::move(statement)};
}

}  // namespace crible::jinja
