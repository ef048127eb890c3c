// A cursor over JSON text that visits values in place: no document, no allocation. Strings come as
// the raw text between the quotes. After the first error every step is a no-op and ok() is false.
// Nesting is limited, so hostile input cannot exhaust the stack.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace crible::load {

class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool ok() const { return ok_; }
  // Only white space is left.
  bool at_end();
  // First character of the next value, or 0 at the end.
  char peek();

  // visit(key) must take exactly one value. Keys are raw (escapes not undone).
  template <typename Visit>
  void each_member(Visit&& visit);
  // visit() must take exactly one value.
  template <typename Visit>
  void each_element(Visit&& visit);

  std::string_view take_string();  // raw
  int64_t take_integer();          // fails for fractions
  bool take_null();                // true if the value was null; otherwise takes nothing
  void skip_value();

 private:
  static constexpr int kMaxDepth = 64;

  void fail() { ok_ = false; }
  bool take(char c);
  void skip_space();
  void take_word(std::string_view word);
  void skip_number();

  const char* at_;
  const char* end_;
  int depth_ = 0;
  bool ok_ = true;
};

// Undoes the escapes of a raw JSON string and appends it as UTF-8; a lone surrogate becomes U+FFFD.
void append_unescaped(std::string_view raw, std::string& out);

template <typename Visit>
void JsonCursor::each_member(Visit&& visit) {
  if (!take('{') || ++depth_ > kMaxDepth) return fail();
  if (peek() == '}') {
    take('}');
  } else {
    do {
      const std::string_view key = take_string();
      if (!take(':')) return fail();
      visit(key);
    } while (ok_ && peek() == ',' && take(','));
    if (!take('}')) return fail();
  }
  --depth_;
}

template <typename Visit>
void JsonCursor::each_element(Visit&& visit) {
  if (!take('[') || ++depth_ > kMaxDepth) return fail();
  if (peek() == ']') {
    take(']');
  } else {
    do {
      visit();
    } while (ok_ && peek() == ',' && take(','));
    if (!take(']')) return fail();
  }
  --depth_;
}

}  // namespace crible::load
