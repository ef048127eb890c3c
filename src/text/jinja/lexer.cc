#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "text/jinja/code_points.h"
#include "text/jinja/number.h"
#include "text/jinja/string_literal.h"
#include "text/jinja/template_error.h"

namespace crible::jinja {
namespace {

bool is_digit_byte(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<int8_t>(c) < 0;
}
bool is_name_byte(char c) {
  return is_name_start(c) || is_digit_byte(c);
}

// Every kind of line end becomes '\n', and one at the very end goes.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out.push_back(source[i] == '\r' ? '\n' : source[i]);
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_outside();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  char byte(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }
  bool starts(size_t at, std::string_view text) const {
    return at <= source_.size() && source_.substr(at).starts_with(text);
  }

  size_t after_space(size_t at) const {
    const std::string_view rest = source_.substr(std::min(at, source_.size()));
    return source_.size() - strip(rest, Side::kLeft).size();
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back(Token{kind, std::move(text), line_, 0, 0}); }

  // Moves on, counting lines and noting whether the next byte starts one.
  void advance_to(size_t end) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<int64_t>(at_),
                                         source_.begin() + static_cast<int64_t>(end), '\n'));
    if (end > at_) line_starting_ = source_[end - 1] == '\n';
    at_ = end;
  }

  template <typename... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) const {
    raise_at(line_, ErrorCode::kInvalidArgument, format, std::forward<Args>(args)...);
  }

  // Adds the text before a tag that opens at `tag`, whose mark and kind decide how much of its
  // trailing white space stays.
  void add_data(size_t tag, bool is_variable) {
    std::string_view text = source_.substr(at_, tag - at_);
    const char mark = byte(tag + 2);
    if (mark == '-') {
      text = strip(text, Side::kRight);
    } else if (mark != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((line_start > 0 || line_starting_) && strip(text.substr(line_start)).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
    advance_to(tag);
  }

  size_t after_mark(size_t tag) const {
    const char mark = byte(tag + 2);
    return tag + (mark == '-' || mark == '+' ? 3 : 2);
  }

  void lex_outside() {
    size_t tag = source_.find('{', at_);
    while (tag != std::string_view::npos && byte(tag + 1) != '%' && byte(tag + 1) != '{' &&
           byte(tag + 1) != '#') {
      tag = source_.find('{', tag + 1);
    }
    if (tag == std::string_view::npos) {
      add(TokenKind::kData, std::string(source_.substr(at_)));
      advance_to(source_.size());
      return;
    }
    const char kind = byte(tag + 1);
    add_data(tag, kind == '{');
    if (kind == '#') {
      lex_comment(tag);
    } else if (kind == '{') {
      lex_tag(tag, TokenKind::kVariableBegin, TokenKind::kVariableEnd, "}}");
    } else if (const size_t body = raw_body(tag); body != 0) {
      lex_raw(body);
    } else {
      lex_tag(tag, TokenKind::kBlockBegin, TokenKind::kBlockEnd, "%}");
    }
  }

  // The end of a closing mark at `at`, if "%}", "-%}" or "+%}" (or another pair) stands there:
  // "-" also takes the white space behind it, none takes one newline if `trims`. Else 0.
  size_t closing(size_t at, std::string_view close, bool trims) const {
    if (byte(at) == '-' && starts(at + 1, close)) return after_space(at + 1 + close.size());
    if (trims && byte(at) == '+' && starts(at + 1, close)) return at + 1 + close.size();
    if (!starts(at, close)) return 0;
    const size_t end = at + close.size();
    return trims && byte(end) == '\n' ? end + 1 : end;
  }

  void lex_comment(size_t tag) {
    const size_t body = after_mark(tag);
    size_t close = source_.find("#}", body);
    if (close == std::string_view::npos) reject("a comment lacks its '#}}'");
    if (close > body && (byte(close - 1) == '-' || byte(close - 1) == '+')) --close;
    advance_to(closing(close, "#}", true));
  }

  // Where the text of a raw block starts, if one opens here. Else 0.
  size_t raw_body(size_t tag) const {
    const size_t name = after_space(after_mark(tag));
    if (!starts(name, "raw")) return 0;
    // Unlike other tags, "{% raw %}" keeps the newline behind it.
    return closing(after_space(name + 3), "%}", false);
  }

  void lex_raw(size_t body) {
    advance_to(body);
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos;
         tag = source_.find("{%", tag + 1)) {
      const size_t name = after_space(after_mark(tag));
      if (!starts(name, "endraw")) continue;
      const size_t end = closing(after_space(name + 6), "%}", true);
      if (end == 0) continue;
      add_data(tag, false);
      advance_to(end);
      return;
    }
    reject("a raw block lacks its endraw");
  }

  void lex_tag(size_t tag, TokenKind begin, TokenKind end, std::string_view close) {
    add(begin, "");
    const int opened_at = line_;
    advance_to(after_mark(tag));
    brackets_.clear();
    while (at_ < source_.size()) {
      const size_t closed = brackets_.empty() ? closing(at_, close, end == TokenKind::kBlockEnd) : 0;
      if (closed != 0) {
        add(end, "");
        advance_to(closed);
        return;
      }
      if (const size_t next = after_space(at_); next > at_) {
        advance_to(next);
      } else {
        lex_inside();
      }
    }
    raise_at(opened_at, ErrorCode::kInvalidArgument, "a tag lacks its '{}'", close);
  }

  void lex_inside() {
    const char c = byte(at_);
    if (is_digit_byte(c)) return lex_number();
    if (c == '\'' || c == '"') return lex_string(c);
    if (!is_name_start(c)) return lex_operator();
    size_t end = at_;
    while (end < source_.size() && is_name_byte(source_[end])) ++end;
    add(TokenKind::kName, std::string(source_.substr(at_, end - at_)));
    advance_to(end);
  }

  // Digits with single underscores between them, from `at`; returns their end.
  size_t digits(size_t at) const {
    while (is_digit_byte(byte(at)) || (byte(at) == '_' && is_digit_byte(byte(at + 1)))) ++at;
    return at;
  }

  size_t exponent(size_t at) const {
    if ((byte(at) | 0x20) != 'e') return at;
    const size_t first = at + (byte(at + 1) == '+' || byte(at + 1) == '-' ? 2 : 1);
    return is_digit_byte(byte(first)) ? digits(first) : at;
  }

  void lex_number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // "a.0.5" is two subscripts
    size_t end = digits(at_);
    const size_t whole = end;
    if (!after_dot) {
      if (byte(end) == '.' && is_digit_byte(byte(end + 1))) end = digits(end + 1);
      end = exponent(end);
    }
    const char marker = static_cast<char>(byte(at_ + 1) | 0x20);
    const bool prefixed =
        byte(at_) == '0' && end == at_ + 1 && (marker == 'x' || marker == 'o' || marker == 'b');
    if (prefixed) {
      while (is_name_byte(byte(end))) ++end;
    }
    const std::string text(source_.substr(at_, end - at_));
    if (end > whole && !prefixed) {
      add(TokenKind::kFloat, text);
      tokens_.back().real = parse_float(text).value_or(0);
    } else {
      const auto value = parse_integer(text, 0);
      const bool leading_zero = !prefixed && text.size() > 1 && text[0] == '0';
      if (!value || (leading_zero && *value != 0)) reject("'{}' is not a number", text);
      add(TokenKind::kInteger, text);
      tokens_.back().integer = *value;
    }
    advance_to(end);
  }

  void lex_string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) reject("a string lacks its closing {}", quote);
    add(TokenKind::kString, unescape_literal(source_.substr(at_ + 1, end - at_ - 1), line_));
    advance_to(end + 1);
  }

  void lex_operator() {
    static constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(kOperators.begin(), kOperators.end(),
                                    [this](std::string_view op) { return starts(at_, op); });
    if (found == kOperators.end()) reject("unexpected character '{}'", byte(at_));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') {
      brackets_.push_back(c == '(' ? ')' : static_cast<char>(c + 2));  // ASCII: "[" + 2 is "]"
    } else if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) reject("unexpected '{}'", c);
      brackets_.pop_back();
    }
    add(TokenKind::kOperator, std::string(*found));
    advance_to(at_ + found->size());
  }

  const std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<char> brackets_;  // closing brackets that are due, innermost last
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  const std::string normalized = normalize_newlines(source);
  return Lexer(normalized).run();
}

}  // namespace crible::jinja
