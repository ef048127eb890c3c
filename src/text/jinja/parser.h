// Tokens to tree: Jinja's grammar as far as chat templates use it. What is left out (inheritance,
// includes, imports, recursive loops, * and ** arguments) is refused by name.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace crible::jinja {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Fails (TemplateError, with its line) when the template is not well-formed. Call once.
  Tree parse();

 private:
  struct UnknownFunction {
    int line;
    std::string message;
  };
  using EndTags = std::initializer_list<std::string_view>;
  class Nesting;

  // Tokens (parser.cc).
  const Token& current() const { return tokens_[at_]; }
  const Token& look_ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take();
  bool at_name(std::string_view name) const { return current().is(TokenKind::kName, name); }
  bool at_operator(std::string_view op) const { return current().is(TokenKind::kOperator, op); }
  bool skip_name(std::string_view name);
  bool skip_operator(std::string_view op);
  Token expect(TokenKind kind, std::string_view what);
  void expect_operator(std::string_view op);
  [[noreturn]] void reject_token(std::string_view expected) const;
  Symbol intern(const std::string& name);

  // Statements (parser_statements.cc).
  Body parse_body(EndTags end_tags);
  Stmt parse_statement();
  Stmt parse_if(int line);
  Stmt parse_for(int line);
  Stmt parse_set(int line);
  Stmt parse_macro(int line);
  Stmt parse_call_block(int line);
  Stmt parse_filter_block(int line);
  Stmt parse_with(int line);
  Stmt parse_generation(int line);
  Target parse_target(bool with_attribute);
  Target parse_single_target(bool with_attribute);
  void parse_parameters(MacroDefinition& macro);
  void parse_macro_body(MacroDefinition& macro, EndTags end_tags);
  // Past the tag that ended a body: its name, then "%}".
  std::string take_end_tag();

  // Expressions, loosest first (parser_expressions.cc).
  ExprPtr parse_tuple(bool with_conditional);
  ExprPtr parse_expression();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filters);
  ExprPtr parse_primary();
  ExprPtr parse_name();
  ExprPtr parse_parenthesized();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr object);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_slice(ExprPtr object, ExprPtr start, int line);
  ExprPtr parse_filters_and_tests(ExprPtr input);
  ExprPtr parse_filter(ExprPtr input);
  ExprPtr parse_test(ExprPtr input);
  CallArguments parse_arguments();
  ExprPtr make_apply(int line, bool is_test, std::string name, ExprPtr input, CallArguments arguments);
  bool at_tuple_end() const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  int loop_nesting_ = 0;
  Tree tree_;
  std::unordered_map<std::string, Symbol> symbols_;
  std::vector<For*> open_loops_;
  std::vector<MacroDefinition*> open_macros_;
  // Filters and tests that do not exist, outside any condition that may keep them from being
  // reached. The first one fails the parse.
  std::vector<UnknownFunction> unknown_;
};

// Bounds the parser's own recursion.
class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser);
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Parser& parser_;
};

}  // namespace crible::jinja
