// Filters over one text, number or arbitrary value.
#include <algorithm>
#include <cmath>

#include "text/jinja/access.h"
#include "text/jinja/arguments.h"
#include "text/jinja/code_points.h"
#include "text/jinja/filters.h"
#include "text/jinja/json_text.h"
#include "text/jinja/methods.h"
#include "text/jinja/number.h"
#include "text/jinja/string_format.h"
#include "text/jinja/text_functions.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

template <std::string (*convert)(std::string_view)>
Value convert_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("a case filter", arguments, {});
  const std::string text = to_text(runtime, input);
  runtime.budget.charge_mapping(static_cast<int64_t>(text.size()));
  return Value::text(convert(text));
}

Value trim(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"chars"});
  const std::string text = to_text(runtime, input);
  return Value::text(std::string(bound.absent(0) ? strip(text) : strip(text, bound.text(0), Side::kBoth)));
}

Value replace_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"});
  const int64_t count = bound.absent(2) ? -1 : bound.integer(2);
  return Value::text(replace(runtime, to_text(runtime, input), to_text(runtime, bound.required(0)),
                             to_text(runtime, bound.required(1)), count));
}

Value string(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("string", arguments, {});
  if (input.is_text()) return input;
  return Value::text(to_text(runtime, input));
}

Value escape(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("escape", arguments, {});
  return Value::text(escape_html(to_text(runtime, input)));
}

Value indent(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"width", "first", "blank"});
  if (!input.is_text()) raise("indent needs a string, not {}", input.type_name());
  std::string margin;
  if (bound.has(0) && bound.required(0).is_text()) {
    margin = bound.text(0);
  } else {
    const int64_t width = std::max<int64_t>(bound.integer_or(0, 4), 0);
    runtime.budget.charge_text(width);
    margin.assign(static_cast<size_t>(width), ' ');
  }
  const bool indent_first = bound.boolean_or(1, false);
  const bool indent_blank = bound.boolean_or(2, false);
  const std::string text = *input.as_text() + "\n";
  std::string out;
  bool first = true;
  for (const std::string_view line : split_lines(text, false)) {
    if (!first) out.push_back('\n');
    if (first ? indent_first : indent_blank || !line.empty()) {
      runtime.budget.charge_text(static_cast<int64_t>(margin.size()));
      out += margin;
    }
    out += line;
    first = false;
  }
  runtime.budget.charge_text(static_cast<int64_t>(out.size()));
  return Value::text(std::move(out));
}

Value format(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const std::string text = to_text(runtime, input);
  if (arguments.named.empty()) {
    return Value::text(percent_format(runtime, text, Value::tuple(arguments.positional)));
  }
  if (!arguments.positional.empty()) raise("format takes values or names, not both");
  Dict dict;
  for (const auto& [name, value] : arguments.named) dict.set(Value::text(name), value);
  return Value::text(percent_format(runtime, text, Value::dict(std::move(dict))));
}

Value default_filter(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("default", arguments, {"default_value", "boolean"});
  const bool replace_falsy = bound.boolean_or(1, false);
  if (!input.is_undefined() && (!replace_falsy || input.truthy())) return input;
  return bound.value_or(0, Value::text(""));
}

// Nothing is ever escaped by itself, so there is nothing to mark: only the change to text is left.
Value safe(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("safe", arguments, {});
  return string(runtime, input, Arguments{});
}

Value int_filter(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("int", arguments, {"default", "base"});
  const Value fallback = bound.value_or(0, Value::integer(0));
  if (const Undefined* undefined = input.get<Undefined>()) {
    raise("'{}' is undefined", undefined->name ? *undefined->name : "the value");
  }
  if (const auto number = as_number(input)) {
    if (!number->is_float) return Value::integer(number->integer);
    return std::isfinite(number->real) ? Value::integer(truncate(number->real)) : fallback;
  }
  const std::string* text = input.as_text();
  if (text == nullptr) return fallback;
  const int64_t base = bound.integer_or(1, 10);
  if (base != 0 && (base < 2 || base > 36)) return fallback;
  if (const auto integer = parse_integer(*text, static_cast<int>(base))) return Value::integer(*integer);
  const auto real = parse_float(*text);
  return real && std::isfinite(*real) ? Value::integer(truncate(*real)) : fallback;
}

Value float_filter(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("float", arguments, {"default"});
  const Value fallback = bound.value_or(0, Value::floating(0));
  if (const Undefined* undefined = input.get<Undefined>()) {
    raise("'{}' is undefined", undefined->name ? *undefined->name : "the value");
  }
  if (const auto number = as_number(input)) return Value::floating(number->as_double());
  const std::string* text = input.as_text();
  const auto real = text != nullptr ? parse_float(*text) : std::nullopt;
  return real ? Value::floating(*real) : fallback;
}

Number needed_number(const Value& input, std::string_view filter) {
  const auto number = as_number(input);
  if (!number) raise("{} needs a number, not {}", filter, input.type_name());
  return *number;
}

Value absolute(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("abs", arguments, {});
  const Number number = needed_number(input, "abs");
  if (number.is_float) return Value::floating(std::fabs(number.real));
  return number.integer < 0 ? arithmetic("-", Number{}, number) : Value::integer(number.integer);
}

// Half to even, on the decimal digits of the exact binary value, as Python's round() does.
double round_decimal(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  if (digits < -308) return std::copysign(0.0, value);
  if (digits >= 0) return *parse_float(fmt::format("{:.{}f}", value, digits));
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

int64_t round_integer(int64_t value, int64_t digits) {
  if (digits >= 0) return value;
  if (digits < -18) return 0;
  int64_t unit = 1;
  for (int64_t i = digits; i < 0; ++i) unit *= 10;
  const int64_t below = value - ((value % unit) + unit) % unit;
  const int64_t rest = value - below;
  const bool up = rest > unit - rest || (rest == unit - rest && (below / unit) % 2 != 0);
  return up ? below + unit : below;
}

Value round_filter(Runtime&, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("round", arguments, {"precision", "method"});
  const Number number = needed_number(input, "round");
  const int64_t digits = bound.integer_or(0, 0);
  const std::string method = bound.text_or(1, "common");
  if (method == "common") {
    if (!number.is_float) return Value::integer(round_integer(number.integer, digits));
    return Value::floating(round_decimal(number.real, digits));
  }
  if (method != "ceil" && method != "floor") raise("round knows common, ceil and floor, not '{}'", method);
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = number.as_double() * scale;
  const double rounded = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  return Value::floating((rounded + 0.0) / scale);  // no negative zero: Python rounds to an int
}

// Options of transformers' tojson: the keywords of json.dumps, in its order.
Value tojson(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.boolean_or(0, false);
  style.sort_keys = bound.boolean_or(3, false);
  if (!bound.absent(1)) {
    if (bound.required(1).is_text()) {
      style.indent = bound.text(1);
    } else {
      const int64_t width = std::max<int64_t>(bound.integer(1), 0);
      if (width > 100) raise("tojson indents by at most 100 spaces, not {}", width);
      style.indent = std::string(static_cast<size_t>(width), ' ');
    }
    style.item_separator = std::string(",");
  }
  if (!bound.absent(2)) {
    const SequencePtr pair = iterate(runtime, bound.required(2));
    if (pair->items.size() != 2 || !pair->items[0].is_text() || !pair->items[1].is_text()) {
      raise("separators of tojson must be two strings");
    }
    style.item_separator = *pair->items[0].as_text();
    style.key_separator = *pair->items[1].as_text();
  }
  return Value::text(to_json(runtime, input, style));
}

Value attribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const BoundArguments bound("attr", arguments, {"name"});
  // Unlike a dot, attr does not look into a dict.
  if (input.is<DictPtr>()) return find_method(input, bound.text(0));
  return get_attribute(runtime, input, std::make_shared<const std::string>(bound.text(0)));
}

}  // namespace

const std::vector<NamedFunction>& scalar_filters() {
  static const std::vector<NamedFunction> kFilters = {
      {"upper", convert_filter<to_upper>},
      {"lower", convert_filter<to_lower>},
      {"capitalize", convert_filter<capitalize>},
      {"title", convert_filter<title_by_words>},
      {"trim", trim},
      {"replace", replace_filter},
      {"string", string},
      {"escape", escape},
      {"e", escape},
      {"indent", indent},
      {"format", format},
      {"default", default_filter},
      {"d", default_filter},
      {"safe", safe},
      {"int", int_filter},
      {"float", float_filter},
      {"abs", absolute},
      {"round", round_filter},
      {"tojson", tojson},
      {"attr", attribute},
  };
  return kFilters;
}

}  // namespace crible::jinja
