#include "text/oniguruma_syntax.h"

#include <charconv>
#include <optional>
#include <vector>

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace crible {
namespace {

// A set of characters as the inside of a class; negated: all others.
struct CharacterSet {
  std::string items;
  bool negated = false;
};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string property_items(std::string_view name) {
  if (name == "L" || name == "Letter") return CRIBLE_LETTERS;
  if (name == "Ll") return R"(\p{Ll})" CRIBLE_LOWER_LETTERS_15;
  if (name == "Lo") return R"(\p{Lo})" CRIBLE_CASELESS_LETTERS_15;
  if (name == "M" || name == "Mark") return CRIBLE_MARKS;
  if (name == "N" || name == "Number") return CRIBLE_NUMBERS;
  if (name == "Nd") return CRIBLE_DECIMAL_DIGITS;
  if (name == "P" || name == "Punctuation") return CRIBLE_PUNCTUATION;
  if (name == "S" || name == "Symbol") return CRIBLE_SYMBOLS;
  return fmt::format("\\p{{{}}}", name);
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> run() {
    while (at_ < pattern_.size()) CRIBLE_RETURN_IF_ERROR(step());
    if (!groups_.empty()) return bad("a group is not closed");
    return std::move(out_);
  }

 private:
  static constexpr size_t kNone = std::string::npos;

  tl::unexpected<Error> unsupported(std::string_view what) const {
    return fail(ErrorCode::kUnsupported,
                "regular expression \"{}\": {} at byte {} is not supported; the tokenizer cannot be used",
                shown(), what, at_);
  }
  tl::unexpected<Error> bad(std::string_view what) const {
    return fail(ErrorCode::kCorrupt, "regular expression \"{}\": {} at byte {}", shown(), what, at_);
  }
  std::string shown() const { return replace_invalid_bytes(pattern_.substr(0, 200)); }
  char peek(size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  void begin_atom() {
    atom_ = out_.size();
    quantified_ = false;
  }
  void no_atom() { atom_ = kNone; }

  Status step();
  Status open_group();
  Status close_group();
  Status quantify();
  Result<bool> braces(std::string& quantifier, bool& exact);
  Status escape();
  Status character_class();
  Status class_item(std::string& positive, std::vector<std::string>& complements);
  Result<std::optional<CharacterSet>> set_escape();
  Result<std::string> character_escape(bool in_class);
  void append_set(const CharacterSet& set) {
    out_ += set.negated ? "[^" : "[";
    out_ += set.items + "]";
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = kNone;  // where in out_ the latest atom begins; none: nothing to repeat
  bool quantified_ = false;
  std::vector<size_t> groups_;  // where in out_ each open group begins
};

Status Translator::step() {
  const char c = peek();
  switch (c) {
    case '\\': return escape();
    case '[': return character_class();
    case '(': return open_group();
    case ')': return close_group();
    case '*':
    case '+':
    case '?': return quantify();
    case '{': return quantify();
    case '|':
    case '^':
    case '$':
      no_atom();
      out_ += c;
      ++at_;
      return {};
    default: break;
  }
  const size_t length = utf8_sequence_length(pattern_.substr(at_));
  if (length == 0) return bad("not UTF-8");
  begin_atom();
  if (c == '\0') {
    out_ += "\\x{0}";
  } else {
    if (c == '}' || c == ']') out_ += '\\';
    out_ += pattern_.substr(at_, length);
  }
  at_ += length;
  return {};
}

Status Translator::open_group() {
  const size_t begin = out_.size();
  if (peek(1) != '?') {
    ++at_;
    out_ += "(?:";
  } else {
    bool known = false;
    for (const std::string_view kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (take(kind)) {
        out_ += kind;
        known = true;
        break;
      }
    }
    if (!known) {
      std::string options = "(?";
      size_t i = at_ + 2;
      for (; i < pattern_.size() && (pattern_[i] == 'i' || pattern_[i] == 'm' || pattern_[i] == '-'); ++i) {
        options += pattern_[i] == 'm' ? 's' : pattern_[i];  // Ruby's m is what others call s
      }
      if (i == at_ + 2 || i >= pattern_.size()) return unsupported("this kind of group");
      if (pattern_[i] == ')') {
        // In the middle the two dialects disagree on how far alternation reaches.
        if (at_ != 0) return unsupported("an option that is not at the beginning");
        out_ += options + ")";
        at_ = i + 1;
        no_atom();
        return {};
      }
      if (pattern_[i] != ':') return unsupported("this kind of group");
      out_ += options + ":";
      at_ = i + 1;
    }
  }
  if (groups_.size() >= 100) return unsupported("a nesting deeper than 100 groups");
  groups_.push_back(begin);
  no_atom();
  return {};
}

Status Translator::close_group() {
  if (groups_.empty()) return bad("a parenthesis closes nothing");
  atom_ = groups_.back();
  quantified_ = false;
  groups_.pop_back();
  out_ += ')';
  ++at_;
  return {};
}

// {n}, {n,}, {,m} or {n,m}; false: the brace stands for itself.
Result<bool> Translator::braces(std::string& quantifier, bool& exact) {
  size_t i = at_ + 1;
  std::string low, high;
  bool comma = false;
  for (; i < pattern_.size() && (is_digit(pattern_[i]) || (pattern_[i] == ',' && !comma)); ++i) {
    if (pattern_[i] == ',') {
      comma = true;
    } else {
      (comma ? high : low) += pattern_[i];
    }
  }
  if (i >= pattern_.size() || pattern_[i] != '}' || (low.empty() && high.empty())) return false;
  if (low.size() > 5 || high.size() > 5) return unsupported("a repetition of 100000 or more");
  exact = !comma;
  quantifier = "{" + (low.empty() ? "0" : low) + (comma ? "," : "") + high + "}";
  at_ = i + 1;
  return true;
}

Status Translator::quantify() {
  std::string quantifier;
  bool in_braces = false;
  bool exact = false;
  if (peek() == '{') {
    CRIBLE_TRY(in_braces, braces(quantifier, exact));
    if (!in_braces) {
      begin_atom();
      out_ += "\\{";
      ++at_;
      return {};
    }
  } else {
    quantifier = peek();
    ++at_;
  }
  if (atom_ == kNone) return bad("nothing to repeat");
  const auto wrap = [&] {
    out_.insert(atom_, "(?:");
    out_ += ')';
  };
  if (quantified_) wrap();
  out_ += quantifier;
  quantified_ = true;
  // Possessive and lazy marks mean the same in both dialects after *, + and ?. After braces, Ruby's
  // + repeats the whole again and, where the count is exact, ? makes the whole optional.
  if (peek() == '+' && !in_braces) {
    out_ += '+';
    ++at_;
  } else if (peek() == '?' && !exact) {
    out_ += '?';
    ++at_;
  }
  return {};
}

// \p{..}, \P{..}, \s, \S, \d, \D, \w, \W, \h, \H; nothing for another escape.
Result<std::optional<CharacterSet>> Translator::set_escape() {
  using Found = std::optional<CharacterSet>;
  const char letter = peek(1);
  const auto set = [&](const char* items, bool negated) {
    at_ += 2;
    return Found(CharacterSet{items, negated});
  };
  switch (letter) {
    case 's': return set(CRIBLE_SPACES, false);
    case 'S': return set(CRIBLE_SPACES, true);
    case 'd': return set(CRIBLE_DECIMAL_DIGITS, false);
    case 'D': return set(CRIBLE_DECIMAL_DIGITS, true);
    case 'w': return set(CRIBLE_WORD, false);
    case 'W': return set(CRIBLE_WORD, true);
    case 'h': return set("0-9a-fA-F", false);
    case 'H': return set("0-9a-fA-F", true);
    case 'p':
    case 'P': break;
    default: return Found();
  }
  const size_t close = pattern_.find('}', at_);
  if (peek(2) != '{' || close == std::string_view::npos) return unsupported("a property without braces");
  std::string_view name = pattern_.substr(at_ + 3, close - at_ - 3);
  bool negated = letter == 'P';
  if (name.starts_with('^')) {
    negated = !negated;
    name.remove_prefix(1);
  }
  for (const char c : name) {
    if (!is_letter(c) && c != '_') return unsupported("this property");
  }
  if (name.empty() || name.size() > 40) return unsupported("this property");
  at_ = close + 1;
  return Found(CharacterSet{property_items(name), negated});
}

// An escape that stands for one character, as it is to be written.
Result<std::string> Translator::character_escape(bool in_class) {
  const char letter = peek(1);
  if (at_ + 1 >= pattern_.size()) return bad("a backslash ends the expression");
  const auto simple = [&](const char* written) {
    at_ += 2;
    return std::string(written);
  };
  switch (letter) {
    case 'r': return simple("\\r");
    case 'n': return simple("\\n");
    case 't': return simple("\\t");
    case 'f': return simple("\\f");
    case 'v': return simple("\\x{0B}");
    case 'a': return simple("\\x{07}");
    case 'e': return simple("\\x{1B}");
    case 'b':
      if (in_class) return simple("\\x{08}");
      break;
    case 'x':
    case 'u': {
      const bool braced = letter == 'x' && peek(2) == '{';
      const size_t begin = at_ + (braced ? 3 : 2);
      const size_t longest = braced ? 8 : letter == 'u' ? 4 : 2;
      size_t end = begin;
      while (end < pattern_.size() && end < begin + longest &&
             std::isxdigit(static_cast<unsigned char>(pattern_[end])))
        ++end;
      const std::string digits(pattern_.substr(begin, end - begin));
      if (digits.empty() || (letter == 'u' && digits.size() != 4)) return bad("an escape without its digits");
      if (braced && (end >= pattern_.size() || pattern_[end] != '}')) return bad("an escape is not closed");
      // Ruby's \x80 to \xFF are bytes and not characters.
      if (letter == 'x' && !braced && digits.size() == 2 && digits[0] >= '8')
        return unsupported("a byte escape");
      at_ = end + (braced ? 1 : 0);
      return "\\x{" + digits + "}";
    }
    default: break;
  }
  if (is_letter(letter) || is_digit(letter)) return unsupported(fmt::format("the escape \\{}", letter));
  const size_t length = utf8_sequence_length(pattern_.substr(at_ + 1));
  if (length == 0) return bad("not UTF-8");
  const std::string_view literal = pattern_.substr(at_ + 1, length);
  at_ += 1 + length;
  if (literal[0] == '\0') return std::string("\\x{0}");
  return (length == 1 ? "\\" : "") + std::string(literal);
}

Status Translator::escape() {
  const char letter = peek(1);
  if (letter == 'A' || letter == 'z' || letter == 'Z') {
    out_ += pattern_.substr(at_, 2);
    at_ += 2;
    no_atom();
    return {};
  }
  if (letter == 'b' || letter == 'B') {
    constexpr const char* kBoundary =
        "(?:(?<=[" CRIBLE_WORD "])(?![" CRIBLE_WORD "])|(?<![" CRIBLE_WORD "])(?=[" CRIBLE_WORD "]))";
    out_ += letter == 'b' ? kBoundary : "(?!" + std::string(kBoundary) + ")";
    at_ += 2;
    no_atom();
    return {};
  }
  CRIBLE_TRY(const std::optional<CharacterSet> set, set_escape());
  begin_atom();
  if (set) {
    append_set(*set);
    return {};
  }
  CRIBLE_TRY(const std::string literal, character_escape(false));
  out_ += literal;
  return {};
}

Status Translator::class_item(std::string& positive, std::vector<std::string>& complements) {
  const char c = peek();
  if (c == '\\') {
    CRIBLE_TRY(const std::optional<CharacterSet> set, set_escape());
    if (set) {
      if (set->negated) {
        complements.push_back(set->items);
      } else {
        positive += set->items;
      }
      return {};
    }
    CRIBLE_TRY(const std::string literal, character_escape(true));
    positive += literal;
    return {};
  }
  if (c == '[') return unsupported("a class within a class");
  if (c == '&' && peek(1) == '&') return unsupported("an intersection of classes");
  const size_t length = utf8_sequence_length(pattern_.substr(at_));
  if (length == 0) return bad("not UTF-8");
  if (c == '\0') {
    positive += "\\x{0}";
  } else {
    // A hyphen stays bare: it may make a range. The other signs are themselves in either dialect.
    if (c == '^') positive += '\\';
    positive += pattern_.substr(at_, length);
  }
  at_ += length;
  return {};
}

Status Translator::character_class() {
  ++at_;
  const bool negated = take("^");
  if (peek() == ']') return unsupported("a class that begins with a bracket");
  std::string positive;
  std::vector<std::string> complements;
  while (at_ < pattern_.size() && peek() != ']') CRIBLE_RETURN_IF_ERROR(class_item(positive, complements));
  if (!take("]")) return bad("a class is not closed");
  begin_atom();
  if (complements.empty()) {
    append_set({positive, negated});
    return {};
  }
  if (complements.size() == 1 && positive.empty()) {
    append_set({complements[0], !negated});
    return {};
  }
  // PCRE2 cannot add "all but these" to a class: alternatives can.
  std::string any;
  if (!positive.empty()) any = "[" + positive + "]";
  for (const std::string& items : complements) any += (any.empty() ? "[^" : "|[^") + items + "]";
  out_ += negated ? "(?:(?!" + any + ")(?s:.))" : "(?:" + any + ")";
  return {};
}

}  // namespace

Result<std::string> pcre2_from_oniguruma(std::string_view pattern) {
  return Translator(pattern).run();
}

}  // namespace crible
