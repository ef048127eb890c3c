#include "model/config_keys.h"

#include <limits>

namespace crible {
namespace {

// An unsigned value beyond 63 bits is no count of anything; as a double it stays out of integer()'s reach.
ConfigValue convert(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> ConfigValue {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, uint64_t>) {
          if (v > uint64_t(std::numeric_limits<int64_t>::max())) return static_cast<double>(v);
          return static_cast<int64_t>(v);
        } else if constexpr (std::is_same_v<T, std::string_view>) {
          return std::string(v);
        } else if constexpr (std::is_same_v<T, GgufArray>) {
          return std::visit(
              [](const auto& array) -> ConfigValue {
                using Element = typename std::decay_t<decltype(array)>::value_type;
                if constexpr (std::is_same_v<Element, std::string_view>) {
                  return std::vector<std::string>(array.begin(), array.end());
                } else {
                  return array;
                }
              },
              v);
        } else {
          return v;
        }
      },
      value);
}

}  // namespace

Result<ConfigKeys> ConfigKeys::from_gguf(const GgufFile& file) {
  CRIBLE_TRY(const std::string_view architecture, file.get_string("general.architecture"));
  ConfigKeys keys(file.path(), std::string(architecture));
  const std::string prefix = keys.architecture_ + ".";
  for (const auto& [key, value] : file.keys()) {
    if (key.starts_with(prefix)) keys.set(key.substr(prefix.size()), convert(value), key);
  }
  return keys;
}

std::string ConfigKeys::spelling(std::string_view key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? fmt::format("{}.{}", architecture_, key) : found->second.spelling;
}

Result<const ConfigValue*> ConfigKeys::find(std::string_view key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    return fail(ErrorCode::kNotFound, "{} does not state {}", path_, spelling(key));
  }
  return &found->second.value;
}

template <typename T>
Result<T> ConfigKeys::get(std::string_view key, const char* wanted) const {
  CRIBLE_TRY(const ConfigValue* value, find(key));
  if (const T* v = std::get_if<T>(value)) return *v;
  return fail(ErrorCode::kCorrupt, "{}: {} is not {}", path_, spelling(key), wanted);
}

Result<int64_t> ConfigKeys::integer(std::string_view key) const { return get<int64_t>(key, "an integer"); }
Result<bool> ConfigKeys::boolean(std::string_view key) const { return get<bool>(key, "true or false"); }
Result<std::string> ConfigKeys::text(std::string_view key) const { return get<std::string>(key, "a string"); }
Result<std::vector<bool>> ConfigKeys::booleans(std::string_view key) const {
  return get<std::vector<bool>>(key, "a list of true and false");
}

Result<double> ConfigKeys::number(std::string_view key) const {
  CRIBLE_TRY(const ConfigValue* value, find(key));
  if (const auto* whole = std::get_if<int64_t>(value)) return static_cast<double>(*whole);
  return get<double>(key, "a number");
}

Result<std::vector<int64_t>> ConfigKeys::integers(std::string_view key) const {
  CRIBLE_TRY(const ConfigValue* value, find(key));
  if (const auto* single = std::get_if<int64_t>(value)) return std::vector<int64_t>{*single};
  return get<std::vector<int64_t>>(key, "a list of integers");
}

Result<std::vector<double>> ConfigKeys::numbers(std::string_view key) const {
  CRIBLE_TRY(const ConfigValue* value, find(key));
  if (const auto* whole = std::get_if<std::vector<int64_t>>(value)) {
    return std::vector<double>(whole->begin(), whole->end());
  }
  return get<std::vector<double>>(key, "a list of numbers");
}

}  // namespace crible
