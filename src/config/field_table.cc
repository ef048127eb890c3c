#include "config/field_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace crible {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitution});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string suggest(std::string_view word, std::span<const std::string_view> known) {
  // A word longer than any setting's name by far is not a slip of the finger.
  if (word.size() > 64) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (std::string_view candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best.empty() ? std::string() : fmt::format("; did you mean '{}'?", best);
}

namespace field {
namespace {

Result<Value> check_range(const Rule& rule, double number, Value value) {
  if (!(number >= rule.minimum && number <= rule.maximum)) {
    return fail(ErrorCode::kInvalidArgument, "{} is {}, but must be {}", rule.name, number,
                describe_range(rule, value));
  }
  return value;
}

Result<Value> check_choice(const Rule& rule, std::string text) {
  if (rule.choices.empty() || std::ranges::find(rule.choices, text) != rule.choices.end()) return Value(std::move(text));
  return fail(ErrorCode::kInvalidArgument, "{} is '{}', but must be {}{}", rule.name, text,
              describe_range(rule, Value(text)), suggest(text, rule.choices));
}

tl::unexpected<Error> wrong_type(const Rule& rule, const Value& wanted, std::string_view found) {
  return fail(ErrorCode::kInvalidArgument, "{} is {}, but must be a {} ({})", rule.name, found,
              type_name(wanted), describe_range(rule, wanted));
}

}  // namespace

std::string_view type_name(const Value& value) {
  constexpr std::string_view kNames[] = {"bool", "integer", "number", "string"};
  return kNames[value.index()];
}

std::string describe_range(const Rule& rule, const Value& current) {
  if (std::holds_alternative<bool>(current)) return "true or false";
  if (std::holds_alternative<std::string>(current)) {
    return rule.choices.empty() ? "text" : fmt::format("one of {}", fmt::join(rule.choices, ", "));
  }
  return fmt::format("from {} to {}{}{}", rule.minimum, rule.maximum, rule.unit.empty() ? "" : " ", rule.unit);
}

Result<Value> from_json(const Rule& rule, const Value& current, const nlohmann::json& json) {
  if (std::holds_alternative<bool>(current)) {
    if (!json.is_boolean()) return wrong_type(rule, current, json.dump());
    return Value(json.get<bool>());
  }
  if (std::holds_alternative<std::string>(current)) {
    if (!json.is_string()) return wrong_type(rule, current, json.dump());
    return check_choice(rule, json.get<std::string>());
  }
  if (!json.is_number()) return wrong_type(rule, current, json.dump());
  const double number = json.get<double>();
  if (std::holds_alternative<int64_t>(current)) {
    if (number != std::floor(number) || std::abs(number) > 9e15) return wrong_type(rule, current, json.dump());
    return check_range(rule, number, Value(static_cast<int64_t>(number)));
  }
  return check_range(rule, number, Value(number));
}

Result<Value> from_text(const Rule& rule, const Value& current, std::string_view text) {
  if (std::holds_alternative<bool>(current)) {
    if (text == "true" || text == "1" || text == "on") return Value(true);
    if (text == "false" || text == "0" || text == "off") return Value(false);
    return wrong_type(rule, current, text);
  }
  if (std::holds_alternative<std::string>(current)) return check_choice(rule, std::string(text));
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size()) return wrong_type(rule, current, text);
  return from_json(rule, current, nlohmann::json(number));
}

nlohmann::json to_json(const Value& value) {
  return std::visit([](const auto& v) { return nlohmann::json(v); }, value);
}

}  // namespace field
}  // namespace crible
