// Methods of str.
#include <algorithm>
#include <array>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/code_points.h"
#include "text/jinja/methods.h"
#include "text/jinja/string_format.h"
#include "text/jinja/text_functions.h"

namespace crible::jinja {
namespace {

const std::string& text_of(const Value& self) {
  return *self.as_text();
}

// Every method reads its text at least once.
const std::string& charge(Runtime& runtime, const Value& self) {
  runtime.budget.charge_text(static_cast<int64_t>(text_of(self).size()));
  return text_of(self);
}

template <Side side>
Value strip_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("strip", arguments, {"chars"});
  const std::string& text = charge(runtime, self);
  const std::string_view kept = bound.absent(0) ? strip(text, side) : strip(text, bound.text(0), side);
  if (kept.size() == text.size()) return self;
  return Value::text(std::string(kept));
}

template <bool from_right>
Value split_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("split", arguments, {"sep", "maxsplit"});
  const std::string& text = charge(runtime, self);
  const int64_t limit = bound.integer_or(1, -1);
  if (bound.absent(0)) return Value::list(split_at_space(runtime, text, limit, from_right));
  const std::string& separator = bound.text(0);
  if (separator.empty()) raise("split needs a separator that is not empty");
  return Value::list(split_at(runtime, text, separator, limit, from_right));
}

Value split_lines_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("splitlines", arguments, {"keepends"});
  std::vector<Value> lines;
  for (const std::string_view line : split_lines(charge(runtime, self), bound.integer_or(0, 0) != 0)) {
    runtime.budget.charge(1);
    lines.push_back(Value::text(std::string(line)));
  }
  return Value::list(std::move(lines));
}

template <bool at_end>
Value affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(at_end ? "endswith" : "startswith", arguments, {"prefix", "start", "end"});
  Value part = self;
  if (bound.has(1)) {
    part = get_slice(runtime, self, bound.required(1), bound.value_or(2, Value::none()), Value::none());
  }
  const std::string& text = text_of(part);
  const auto matches = [&](const std::string& affix) {
    runtime.budget.charge_text(static_cast<int64_t>(affix.size()));
    return at_end ? text.ends_with(affix) : text.starts_with(affix);
  };
  const Value& wanted = bound.required(0);
  const SequencePtr* choices = wanted.get<SequencePtr>();
  if (choices == nullptr || (*choices)->kind != SequenceKind::kTuple) {
    return Value::boolean(matches(bound.text(0)));
  }
  for (const Value& choice : (*choices)->items) {
    if (!choice.is_text()) raise("a tuple of prefixes or suffixes must hold strings only");
    if (matches(*choice.as_text())) return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool from_right, bool must_exist>
Value find_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("find", arguments, {"sub", "start", "end"});
  const std::string& text = charge(runtime, self);
  const std::string& wanted = bound.text(0);
  const std::vector<size_t> offsets = code_point_offsets(text);
  const auto count = static_cast<int64_t>(offsets.size()) - 1;
  const auto position = [&](size_t index, int64_t fallback) {
    if (bound.absent(index)) return fallback;
    const int64_t at = bound.integer(index);
    return at < 0 ? std::max<int64_t>(at + count, 0) : at;
  };
  const int64_t start = position(1, 0);
  const int64_t end = std::min(position(2, count), count);
  int64_t result = -1;
  if (start <= end) {
    const size_t first = offsets[static_cast<size_t>(start)];
    const std::string_view window(text.data() + first, offsets[static_cast<size_t>(end)] - first);
    const size_t found = from_right ? window.rfind(wanted) : window.find(wanted);
    if (found != std::string_view::npos) {
      result = std::lower_bound(offsets.begin(), offsets.end(), found + first) - offsets.begin();
    }
  }
  if (must_exist && result < 0) raise("the text to look for was not found");
  return Value::integer(result);
}

Value count_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"sub"});
  const std::string& text = charge(runtime, self);
  const std::string& wanted = bound.text(0);
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(count_code_points(text)) + 1);
  int64_t count = 0;
  for (size_t at = text.find(wanted); at != std::string::npos; at = text.find(wanted, at + wanted.size())) {
    ++count;
  }
  return Value::integer(count);
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"});
  return Value::text(
      replace(runtime, charge(runtime, self), bound.text(0), bound.text(1), bound.integer_or(2, -1)));
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"iterable"});
  const SequencePtr items = iterate(runtime, bound.required(0));
  std::string out;
  for (size_t i = 0; i < items->items.size(); ++i) {
    const std::string* item = items->items[i].as_text();
    if (item == nullptr) raise("join needs strings, element {} is a {}", i, items->items[i].type_name());
    if (i > 0) out += text_of(self);
    out += *item;
    runtime.budget.charge_text(static_cast<int64_t>(item->size() + text_of(self).size()));
    runtime.budget.check_text(static_cast<int64_t>(out.size()));
  }
  return Value::text(std::move(out));
}

template <std::string (*convert)(std::string_view)>
Value convert_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a case conversion", arguments, {});
  runtime.budget.charge_mapping(static_cast<int64_t>(text_of(self).size()));
  return Value::text(convert(text_of(self)));
}

Value format_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Value::text(brace_format(runtime, charge(runtime, self), arguments));
}

template <bool (*holds)(char32_t)>
Value all_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a character test", arguments, {});
  const std::string& text = text_of(self);
  runtime.budget.charge_mapping(static_cast<int64_t>(text.size()));
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    if (!holds(code_point_at(text, at))) return Value::boolean(false);
  }
  return Value::boolean(!text.empty());
}

template <bool (*holds)(std::string_view)>
Value case_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a case test", arguments, {});
  runtime.budget.charge_mapping(static_cast<int64_t>(text_of(self).size()));
  return Value::boolean(holds(text_of(self)));
}

bool is_letter_or_digit(char32_t c) {
  return is_letter(c) || is_digit(c);
}

template <bool at_end>
Value remove_affix_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound(at_end ? "removesuffix" : "removeprefix", arguments, {"affix"});
  std::string_view text = charge(runtime, self);
  const std::string& affix = bound.text(0);
  if (affix.empty() || !(at_end ? text.ends_with(affix) : text.starts_with(affix))) return self;
  at_end ? text.remove_suffix(affix.size()) : text.remove_prefix(affix.size());
  return Value::text(std::string(text));
}

template <bool from_right>
Value partition_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("partition", arguments, {"sep"});
  const std::string& text = charge(runtime, self);
  const std::string& separator = bound.text(0);
  if (separator.empty()) raise("partition needs a separator that is not empty");
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  if (at == std::string::npos) {
    const Value empty = Value::text("");
    return from_right ? Value::tuple({empty, empty, self}) : Value::tuple({self, empty, empty});
  }
  return Value::tuple(
      {Value::text(text.substr(0, at)), bound.required(0), Value::text(text.substr(at + separator.size()))});
}

template <char align>
Value justify_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const BoundArguments bound("a padding method", arguments, {"width", "fillchar"});
  const std::string& text = charge(runtime, self);
  const std::string fill = bound.text_or(1, align == '0' ? "0" : " ");
  if (count_code_points(fill) != 1) raise("padding needs a single character");
  const int64_t missing = bound.integer(0) - static_cast<int64_t>(count_code_points(text));
  if (missing <= 0) return self;
  if (missing > runtime.budget.limits().max_string_bytes) raise("the width is too large");
  runtime.budget.charge_text(missing * static_cast<int64_t>(fill.size()));
  // Where an odd number of places is to be split, CPython gives the left side the extra one only
  // if the width is odd too.
  const int64_t centred = missing / 2 + (missing & bound.integer(0) & 1);
  const int64_t left = align == '<' ? 0 : align == '^' ? centred : missing;
  const size_t sign = align == '0' && !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  std::string out = text.substr(0, sign);
  for (int64_t i = 0; i < left; ++i) out += fill;
  out.append(text, sign);
  for (int64_t i = left; i < missing; ++i) out += fill;
  return Value::text(std::move(out));
}

constexpr std::array kTextMethods = {
    Method{"strip", strip_method<Side::kBoth>},
    Method{"lstrip", strip_method<Side::kLeft>},
    Method{"rstrip", strip_method<Side::kRight>},
    Method{"split", split_method<false>},
    Method{"rsplit", split_method<true>},
    Method{"splitlines", split_lines_method},
    Method{"startswith", affix_method<false>},
    Method{"endswith", affix_method<true>},
    Method{"find", find_text<false, false>},
    Method{"rfind", find_text<true, false>},
    Method{"index", find_text<false, true>},
    Method{"rindex", find_text<true, true>},
    Method{"count", count_method},
    Method{"replace", replace_method},
    Method{"join", join_method},
    Method{"upper", convert_method<to_upper>},
    Method{"lower", convert_method<to_lower>},
    Method{"casefold", convert_method<to_lower>},
    Method{"capitalize", convert_method<capitalize>},
    Method{"title", convert_method<title_by_letters>},
    Method{"swapcase", convert_method<swap_case>},
    Method{"format", format_method},
    Method{"isdigit", all_method<is_digit>},
    Method{"isdecimal", all_method<is_digit>},
    Method{"isalpha", all_method<is_letter>},
    Method{"isalnum", all_method<is_letter_or_digit>},
    Method{"isspace", all_method<is_space>},
    Method{"isupper", case_method<is_upper_text>},
    Method{"islower", case_method<is_lower_text>},
    Method{"removeprefix", remove_affix_method<false>},
    Method{"removesuffix", remove_affix_method<true>},
    Method{"partition", partition_method<false>},
    Method{"rpartition", partition_method<true>},
    Method{"ljust", justify_method<'<'>},
    Method{"rjust", justify_method<'>'>},
    Method{"center", justify_method<'^'>},
    Method{"zfill", justify_method<'0'>},
};

}  // namespace

const Method* find_text_method(std::string_view name) {
  const auto found = std::find_if(kTextMethods.begin(), kTextMethods.end(),
                                  [name](const Method& method) { return method.name == name; });
  return found == kTextMethods.end() ? nullptr : &*found;
}

}  // namespace crible::jinja
