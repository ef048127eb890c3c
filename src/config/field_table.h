// One declaration per setting: name, type, unit, default, range, help. The table of a configuration
// struct feeds command-line flags, JSON, trial records, report columns and docs, so that a setting
// is spelled once. An unknown name or a value out of range is an Error, never a default.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace crible {

// "did you mean 'x'?" for an unknown word, or empty when nothing is near (edit distance).
std::string suggest(std::string_view word, std::span<const std::string_view> known);

template <typename Config>
struct Field {
  using Member = std::variant<bool Config::*, int64_t Config::*, double Config::*, std::string Config::*>;
  std::string_view name;  // as an operator writes it: "max-num-seqs"
  Member member;
  std::string_view unit;  // "tokens", "bytes", "share", or empty
  double minimum = 0;     // numbers only, inclusive
  double maximum = 0;
  std::vector<std::string_view> choices;  // strings only; empty = free text
  bool live = false;      // may change without a restart (POST /admin/reconfigure)
  std::string_view help;
};

// Untyped half of the table, shared by all configurations (field_table.cc).
namespace field {
using Value = std::variant<bool, int64_t, double, std::string>;
struct Rule {
  std::string_view name;
  std::string_view unit;
  double minimum;
  double maximum;
  std::span<const std::string_view> choices;
};
// Converts and checks. `current` gives the wanted type. Integers are taken where a number is
// wanted; nothing else converts.
Result<Value> from_json(const Rule& rule, const Value& current, const nlohmann::json& json);
Result<Value> from_text(const Rule& rule, const Value& current, std::string_view text);
nlohmann::json to_json(const Value& value);
std::string_view type_name(const Value& value);  // "bool", "integer", "number", "string"
std::string describe_range(const Rule& rule, const Value& current);
}  // namespace field

template <typename Config>
class FieldTable {
 public:
  explicit FieldTable(std::vector<Field<Config>> fields) : fields_(std::move(fields)) {}

  std::span<const Field<Config>> fields() const { return fields_; }

  Result<const Field<Config>*> find(std::string_view name) const {
    std::vector<std::string_view> names;
    for (const auto& f : fields_) {
      if (f.name == name) return &f;
      names.push_back(f.name);
    }
    return fail(ErrorCode::kInvalidArgument, "unknown setting '{}'{}", name, suggest(name, names));
  }

  static field::Value get(const Config& config, const Field<Config>& f) {
    return std::visit([&](auto member) { return field::Value(config.*member); }, f.member);
  }

  Status set_json(Config& config, std::string_view name, const nlohmann::json& json) const {
    CRIBLE_TRY(const Field<Config>* f, find(name));
    CRIBLE_TRY(const field::Value value, field::from_json(rule(*f), get(config, *f), json));
    assign(config, *f, value);
    return {};
  }

  Status set_text(Config& config, std::string_view name, std::string_view text) const {
    CRIBLE_TRY(const Field<Config>* f, find(name));
    CRIBLE_TRY(const field::Value value, field::from_text(rule(*f), get(config, *f), text));
    assign(config, *f, value);
    return {};
  }

  // Every key of the object, or the first error; `config` is unchanged on error.
  Status apply_json(Config& config, const nlohmann::json& object) const {
    if (!object.is_object()) return fail(ErrorCode::kInvalidArgument, "settings must be a JSON object");
    Config changed = config;
    for (const auto& [key, value] : object.items()) {
      CRIBLE_RETURN_IF_ERROR(set_json(changed, key, value));
    }
    config = std::move(changed);
    return {};
  }

  nlohmann::json to_json(const Config& config) const {
    nlohmann::json object = nlohmann::json::object();
    for (const auto& f : fields_) object[std::string(f.name)] = field::to_json(get(config, f));
    return object;
  }

  static field::Rule rule(const Field<Config>& f) {
    return {f.name, f.unit, f.minimum, f.maximum, f.choices};
  }

 private:
  static void assign(Config& config, const Field<Config>& f, const field::Value& value) {
    std::visit([&](auto member) {
      using T = std::remove_reference_t<decltype(config.*member)>;
      config.*member = std::get<T>(value);
    }, f.member);
  }

  std::vector<Field<Config>> fields_;
};

}  // namespace crible
