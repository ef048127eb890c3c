// Template source to tokens, with Jinja's white-space rules as transformers sets them: trim_blocks
// and lstrip_blocks on, the last newline of the source dropped, "-" and "+" marks honoured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace crible::jinja {

enum class TokenKind : uint8_t {
  kData,  // text outside tags
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,  // text: the value, escapes resolved
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::string text;
  int line = 0;
  int64_t integer = 0;
  double real = 0;

  bool is(TokenKind wanted, std::string_view wanted_text) const {
    return kind == wanted && text == wanted_text;
  }
};

// Ends with one kEnd. Fails (TemplateError, with its line) on unclosed or malformed tags.
std::vector<Token> tokenize(std::string_view source);

}  // namespace crible::jinja
