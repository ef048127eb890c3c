#include "model/config_reader.h"

#include <algorithm>
#include <cmath>

namespace crible {

bool ConfigReader::has_list(std::string_view key) const {
  const auto found = keys_.entries().find(key);
  return found != keys_.entries().end() && std::holds_alternative<std::vector<bool>>(found->second.value);
}

Result<int64_t> ConfigReader::integer(std::string_view key, int64_t minimum, int64_t maximum) const {
  CRIBLE_TRY(const int64_t value, keys_.integer(key));
  if (value < minimum || value > maximum) {
    return fail(ErrorCode::kUnsupported, "{}: {} is {}; this build takes {} to {}", path(), spelling(key), value,
                minimum, maximum);
  }
  return value;
}

Result<double> ConfigReader::positive(std::string_view key) const {
  CRIBLE_TRY(const double value, keys_.number(key));
  if (!std::isfinite(value) || value <= 0) {
    return fail(ErrorCode::kCorrupt, "{}: {} is {}; it must be a number above 0", path(), spelling(key), value);
  }
  return value;
}

Result<std::vector<bool>> ConfigReader::booleans(std::string_view key, int64_t count) const {
  CRIBLE_TRY(std::vector<bool> values, keys_.booleans(key));
  if (static_cast<int64_t>(values.size()) != count) {
    return fail(ErrorCode::kCorrupt, "{}: {} lists {} values; {} are needed", path(), spelling(key), values.size(),
                count);
  }
  return values;
}

Result<int64_t> ConfigReader::integer_or(std::string_view key, int64_t absent, int64_t minimum,
                                         int64_t maximum) const {
  if (!has(key)) return absent;
  return integer(key, minimum, maximum);
}

Result<double> ConfigReader::positive_or(std::string_view key, double absent) const {
  if (!has(key)) return absent;
  return positive(key);
}

Result<bool> ConfigReader::boolean_or(std::string_view key, bool absent) const {
  if (!has(key)) return absent;
  return keys_.boolean(key);
}

Status ConfigReader::require(std::string_view key, double value) const {
  if (!has(key)) return {};
  CRIBLE_TRY(const double stated, keys_.number(key));
  if (stated == value) return {};
  return fail(ErrorCode::kUnsupported, "{}: {} is {}; this build computes with {} only", path(), spelling(key), stated,
              value);
}

Status ConfigReader::check_all_known(std::span<const std::string_view> known,
                                     std::span<const std::string_view> more) const {
  for (const auto& [key, entry] : keys_.entries()) {
    const auto in = [&](std::span<const std::string_view> list) { return std::ranges::find(list, key) != list.end(); };
    if (in(known) || in(more)) continue;
    return fail(ErrorCode::kUnsupported,
                "{}: the key {} is not known to this build, so the model cannot be computed as it was made; use a model "
                "without it",
                path(), entry.spelling);
  }
  return {};
}

}  // namespace crible
