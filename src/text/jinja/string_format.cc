#include "text/jinja/string_format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "text/jinja/access.h"
#include "text/jinja/code_points.h"
#include "text/jinja/number.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

constexpr int64_t kMaxWidth = 10'000;
constexpr int64_t kMaxPrecision = 100;

struct Spec {
  std::string fill = " ";
  char align = '\0';  // '<', '>', '^', '=' (padding after the sign)
  char sign = '-';    // '-', '+', ' '
  bool alternate = false;
  bool thousands = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
};

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}
  bool done() const { return at_ >= text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  char next() { return done() ? '\0' : text_[at_++]; }
  bool skip(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  bool skip_any(std::string_view wanted, char& found) {
    if (done() || wanted.find(peek()) == std::string_view::npos) return false;
    found = next();
    return true;
  }
  std::optional<int64_t> digits() {
    if (peek() < '0' || peek() > '9') return std::nullopt;
    int64_t value = 0;
    while (peek() >= '0' && peek() <= '9') value = std::min(kMaxWidth + 1, value * 10 + (next() - '0'));
    return value;
  }
  // Up to, not including, `end`; fails when there is none.
  std::string_view until(char end) {
    const size_t stop = text_.find(end, at_);
    if (stop == std::string_view::npos) raise("a format string lacks its '{}'", end);
    const std::string_view part = text_.substr(at_, stop - at_);
    at_ = stop + 1;
    return part;
  }
  std::string_view rest() const { return text_.substr(at_); }
  void advance(size_t bytes) { at_ += bytes; }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

void check_spec(const Spec& spec) {
  if (spec.width > kMaxWidth) raise("a format width is limited to {}", kMaxWidth);
  if (spec.precision > kMaxPrecision) raise("a format precision is limited to {}", kMaxPrecision);
}

std::string pad(std::string body, const Spec& spec, char default_align) {
  const auto length = static_cast<int64_t>(count_code_points(body));
  if (length >= spec.width) return body;
  const char align = spec.align != '\0' ? spec.align : default_align;
  const int64_t missing = spec.width - length;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string padding;
  for (int64_t i = 0; i < left; ++i) padding += spec.fill;
  std::string out;
  if (align == '=' && !body.empty() && (body[0] == '-' || body[0] == '+' || body[0] == ' ')) {
    out = body.substr(0, 1) + padding + body.substr(1);
  } else {
    out = padding + body;
  }
  for (int64_t i = left; i < missing; ++i) out += spec.fill;
  return out;
}

std::string group_thousands(std::string digits) {
  const size_t whole = std::min(digits.find_first_of(".e"), digits.size());
  for (size_t at = whole; at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string with_sign(bool negative, std::string magnitude, const Spec& spec) {
  if (spec.thousands) magnitude = group_thousands(std::move(magnitude));
  if (negative || spec.sign != '-') magnitude.insert(0, 1, negative ? '-' : spec.sign);
  return magnitude;
}

std::string format_integer(int64_t value, const Spec& spec) {
  const uint64_t magnitude = value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  const auto prefix = [&spec](const char* text) { return spec.alternate ? text : ""; };
  std::string digits;
  switch (spec.type) {
    case 'x': digits = fmt::format("{}{:x}", prefix("0x"), magnitude); break;
    case 'X': digits = fmt::format("{}{:X}", prefix("0X"), magnitude); break;
    case 'o': digits = fmt::format("{}{:o}", prefix("0o"), magnitude); break;
    case 'b': digits = fmt::format("{}{:b}", prefix("0b"), magnitude); break;
    default: digits = fmt::format("{}", magnitude);
  }
  return with_sign(value < 0, std::move(digits), spec);
}

std::string format_float(double value, const Spec& spec) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  if (!std::isfinite(value)) return with_sign(negative, std::isnan(value) ? "nan" : "inf", spec);
  const double magnitude = std::fabs(value);
  const double scaled = spec.type == '%' ? magnitude * 100 : magnitude;
  const char conversion = spec.type == '%' ? 'f' : spec.type;
  const int precision = spec.precision < 0 ? 6 : static_cast<int>(spec.precision);
  const char pattern[] = {'%', '.', '*', conversion, '\0'};
  char buffer[512];  // 309 digits before the point, at most kMaxPrecision behind it
  const int written = std::snprintf(buffer, sizeof(buffer), pattern, precision, scaled);
  std::string digits(buffer, static_cast<size_t>(written));
  if (spec.type == '%') digits += '%';
  return with_sign(negative, std::move(digits), spec);
}

std::string cut(std::string text, const Spec& spec) {
  if (spec.precision < 0) return text;
  const std::vector<size_t> offsets = code_point_offsets(text);
  const auto keep = static_cast<size_t>(spec.precision);
  if (keep + 1 < offsets.size()) text.resize(offsets[keep]);
  return text;
}

Number number_for(const Value& value, char type) {
  const auto number = as_number(value);
  if (!number) raise("format '{}' needs a number, not {}", type, value.type_name());
  return *number;
}

bool is_float_type(char type) {
  return std::string_view("fFeEgG%").find(type) != std::string_view::npos;
}

// One "%..." conversion after its spec was read.
std::string percent_convert(Runtime& runtime, Spec spec, const Value& value) {
  const char right = spec.align != '\0' ? spec.align : '>';
  switch (spec.type) {
    case 's': return pad(cut(to_text(runtime, value), spec), spec, '>');
    case 'r': return pad(cut(to_repr(runtime, value), spec), spec, '>');
    case 'c': {
      if (value.is_text() && count_code_points(*value.as_text()) == 1) {
        return pad(*value.as_text(), spec, '>');
      }
      const Number number = number_for(value, 'c');
      if (number.is_float || number.integer < 0 || number.integer > 0x10FFFF) raise("%c is out of range");
      std::string out;
      append_code_point(out, static_cast<char32_t>(number.integer));
      return pad(std::move(out), spec, '>');
    }
    default: break;
  }
  const Number number = number_for(value, spec.type);
  if (is_float_type(spec.type)) return pad(format_float(number.as_double(), spec), spec, right);
  if (number.is_float && spec.type != 'd') raise("%{} needs an integer", spec.type);
  const int64_t integer = number.is_float ? truncate(number.real) : number.integer;
  return pad(format_integer(integer, spec), spec, right);
}

Spec parse_percent_spec(Cursor& cursor) {
  Spec spec;
  bool zero = false;
  for (char flag = '\0'; cursor.skip_any("-+ #0", flag);) {
    if (flag == '-') spec.align = '<';
    if (flag == '+') spec.sign = '+';
    if (flag == ' ' && spec.sign == '-') spec.sign = ' ';
    if (flag == '#') spec.alternate = true;
    if (flag == '0') zero = true;
  }
  spec.width = cursor.digits().value_or(0);
  if (cursor.skip('.')) spec.precision = cursor.digits().value_or(0);
  spec.type = cursor.next();
  if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
  if (spec.type == '\0' || std::string_view("srcdxXofFeEgG").find(spec.type) == std::string_view::npos) {
    raise("'%{}' is not a conversion of a format string", spec.type == '\0' ? ' ' : spec.type);
  }
  if (zero && spec.align == '\0' && spec.type != 's' && spec.type != 'r' && spec.type != 'c') {
    spec.fill = "0";
    spec.align = '=';
  }
  check_spec(spec);
  return spec;
}

Spec parse_brace_spec(std::string_view text) {
  Spec spec;
  Cursor cursor(text);
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const size_t first = text.empty() ? 0 : code_point_bytes(text, 0);
  if (first < text.size() && is_align(text[first])) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    cursor.advance(first + 1);
  } else if (is_align(cursor.peek())) {
    spec.align = cursor.next();
  }
  cursor.skip_any("-+ ", spec.sign);
  spec.alternate = cursor.skip('#');
  if (cursor.skip('0') && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  spec.width = cursor.digits().value_or(0);
  spec.thousands = cursor.skip(',');
  if (cursor.skip('.')) {
    const auto precision = cursor.digits();
    if (!precision) raise("a format specification lacks its precision");
    spec.precision = *precision;
  }
  cursor.skip_any("sdxXobfFeEgG%", spec.type);
  if (!cursor.done()) raise("'{}' is not a format specification", text);
  check_spec(spec);
  return spec;
}

std::string brace_convert(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return to_text(runtime, value);
  Spec spec = parse_brace_spec(spec_text);
  const auto number = as_number(value);
  if (!number) {
    if (!value.is_text()) raise("a {} takes no format specification", value.type_name());
    if (spec.type != '\0' && spec.type != 's') raise("format '{}' needs a number", spec.type);
    return pad(cut(to_text(runtime, value), spec), spec, '<');
  }
  if (spec.type == 's') raise("format 's' needs a string, not {}", value.type_name());
  if (is_float_type(spec.type)) return pad(format_float(number->as_double(), spec), spec, '>');
  if (!number->is_float) return pad(format_integer(number->integer, spec), spec, '>');
  if (spec.type != '\0') raise("format '{}' needs an integer", spec.type);
  if (spec.precision >= 0) {
    spec.type = 'g';
    return pad(format_float(number->real, spec), spec, '>');
  }
  return pad(with_sign(std::signbit(number->real), float_text(std::fabs(number->real)), spec), spec, '>');
}

// "name", "0", "" (the next one), with ".attribute" and "[key]" behind it.
Value brace_field(Runtime& runtime, std::string_view field, const Arguments& arguments, size_t& next) {
  const size_t head_end = std::min(field.find_first_of(".["), field.size());
  const std::string_view head = field.substr(0, head_end);
  Value value;
  const auto position = head.empty() ? std::optional<int64_t>(next++) : parse_integer(head, 10);
  if (position) {
    if (*position < 0 || *position >= static_cast<int64_t>(arguments.positional.size())) {
      raise("format needs more arguments than the {} given", arguments.positional.size());
    }
    value = arguments.positional[static_cast<size_t>(*position)];
  } else {
    const std::pair<std::string, Value>* found = nullptr;
    for (const auto& argument : arguments.named) {
      if (argument.first == head) found = &argument;
    }
    if (found == nullptr) raise("format has no argument named '{}'", head);
    value = found->second;
  }
  Cursor cursor(field.substr(head_end));
  while (!cursor.done()) {
    if (cursor.skip('[')) {
      const std::string_view key = cursor.until(']');
      const auto index = parse_integer(key, 10);
      value = get_item(runtime, value, index ? Value::integer(*index) : Value::text(std::string(key)));
      continue;
    }
    if (!cursor.skip('.')) raise("'{}' is not a field of a format string", field);
    const std::string_view name = cursor.rest().substr(0, cursor.rest().find_first_of(".["));
    cursor.advance(name.size());
    value = get_attribute(runtime, value, std::make_shared<const std::string>(name));
  }
  return value;
}

}  // namespace

std::string percent_format(Runtime& runtime, std::string_view format, const Value& operand) {
  const SequencePtr* sequence = operand.get<SequencePtr>();
  const bool many = sequence != nullptr && (*sequence)->kind == SequenceKind::kTuple;
  const DictPtr* dict = operand.get<DictPtr>();
  size_t used = 0;
  const auto take = [&]() -> const Value& {
    const size_t available = many ? (*sequence)->items.size() : 1;
    if (used >= available) raise("a format string has more conversions than the {} values given", available);
    return many ? (*sequence)->items[used++] : (++used, operand);
  };
  std::string out;
  Cursor cursor(format);
  while (!cursor.done()) {
    const char c = cursor.next();
    if (c != '%') {
      out.push_back(c);
      continue;
    }
    if (cursor.skip('%')) {
      out.push_back('%');
      continue;
    }
    if (cursor.skip('(')) {
      const std::string_view name = cursor.until(')');
      if (dict == nullptr) raise("a format string with names needs a dict");
      const Value* value = (*dict)->find(name);
      if (value == nullptr) raise("the dict of a format string has no key '{}'", name);
      out += percent_convert(runtime, parse_percent_spec(cursor), *value);
    } else {
      const Spec spec = parse_percent_spec(cursor);
      out += percent_convert(runtime, spec, take());
    }
    runtime.budget.charge(1);
  }
  runtime.budget.charge_text(static_cast<int64_t>(out.size()));
  const bool all_used = many ? used == (*sequence)->items.size() : used == 1;
  const bool may_be_unused = dict != nullptr || (sequence != nullptr && !many);
  if (!all_used && !may_be_unused) raise("not all values were used by the format string");
  return out;
}

std::string brace_format(Runtime& runtime, std::string_view format, const Arguments& arguments) {
  std::string out;
  size_t next = 0;
  Cursor cursor(format);
  while (!cursor.done()) {
    const char c = cursor.next();
    if ((c == '{' || c == '}') && cursor.skip(c)) {
      out.push_back(c);
    } else if (c == '}') {
      raise("a format string has a single '}}'");
    } else if (c != '{') {
      out.push_back(c);
    } else {
      std::string_view field = cursor.until('}');
      const size_t colon = field.find(':');
      const std::string_view spec = colon == std::string_view::npos ? "" : field.substr(colon + 1);
      field = field.substr(0, colon);
      const bool as_repr = field.ends_with("!r");
      if (as_repr || field.ends_with("!s")) field.remove_suffix(2);
      Value value = brace_field(runtime, field, arguments, next);
      if (as_repr) value = Value::text(to_repr(runtime, value));
      out += brace_convert(runtime, value, spec);
      runtime.budget.charge(1);
    }
  }
  runtime.budget.charge_text(static_cast<int64_t>(out.size()));
  return out;
}

}  // namespace crible::jinja
