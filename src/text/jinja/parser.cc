#include "text/jinja/parser.h"

#include "text/jinja/template_error.h"

namespace crible::jinja {
namespace {

constexpr int kMaxNesting = 120;

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd: return "the end of the template";
    case TokenKind::kBlockEnd: return "'%}'";
    case TokenKind::kVariableEnd: return "'}}'";
    case TokenKind::kString: return "a string";
    case TokenKind::kData:
    case TokenKind::kBlockBegin:
    case TokenKind::kVariableBegin: return "text";
    default: return "'" + token.text + "'";
  }
}

}  // namespace

Parser::Nesting::Nesting(Parser& parser) : parser_(parser) {
  if (++parser_.nesting_ > kMaxNesting) {
    --parser_.nesting_;
    raise_at(parser_.current().line, ErrorCode::kResourceExhausted, "the template nests more than {} levels",
             kMaxNesting);
  }
}

Tree Parser::parse() {
  tree_.loop = intern("loop");
  tree_.caller = intern("caller");
  tree_.varargs = intern("varargs");
  tree_.kwargs = intern("kwargs");
  tree_.body = parse_body({});
  if (!unknown_.empty()) {
    raise_at(unknown_[0].line, ErrorCode::kInvalidArgument, "{}", unknown_[0].message);
  }
  return std::move(tree_);
}

Token Parser::take() {
  Token token = std::move(tokens_[at_]);
  tokens_[at_].line = token.line;
  if (token.kind != TokenKind::kEnd) ++at_;
  return token;
}

bool Parser::skip_name(std::string_view name) {
  if (!at_name(name)) return false;
  ++at_;
  return true;
}

bool Parser::skip_operator(std::string_view op) {
  if (!at_operator(op)) return false;
  ++at_;
  return true;
}

Token Parser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) reject_token(what);
  return take();
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) reject_token(op);
}

void Parser::reject_token(std::string_view expected) const {
  raise_at(current().line, ErrorCode::kInvalidArgument, "expected {}, found {}", expected,
           describe(current()));
}

Symbol Parser::intern(const std::string& name) {
  const auto [found, added] = symbols_.emplace(name, static_cast<Symbol>(tree_.symbols.size()));
  if (added) tree_.symbols.push_back(std::make_shared<const std::string>(name));
  return found->second;
}

}  // namespace crible::jinja
