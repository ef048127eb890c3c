#include "wire/field_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace crible {

std::string quoted_json(const Json& value) {
  constexpr size_t kLongest = 60;
  if (value.is_structured() && value.size() > 8) return value.is_array() ? "an array" : "an object";
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

FieldReader::FieldReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object()) {
    fail(ApiError{.message = fmt::format("{} must be a JSON object, not {}",
                                         path_.empty() ? "the request body" : path_.substr(0, path_.size() - 1),
                                         quoted_json(object)),
                  .param = path_.empty() ? "" : path_.substr(0, path_.size() - 1)});
  }
}

const Json* FieldReader::take(std::string_view name) {
  known_.push_back(name);
  if (!object_.is_object()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool FieldReader::flag(std::string_view name, bool fallback) {
  const Json* value = take(name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fail(name, fmt::format("must be true or false, not {}", quoted_json(*value)));
  return fallback;
}

std::string FieldReader::text(std::string_view name, std::string fallback) {
  const Json* value = take(name);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  fail(name, fmt::format("must be a string, not {}", quoted_json(*value)));
  return fallback;
}

std::optional<int64_t> FieldReader::integer(std::string_view name, int64_t minimum, int64_t maximum) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  // A number too large for int64 is read as unsigned; its conversion would wrap around.
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (fits) {
    const auto number = value->get<int64_t>();
    if (number >= minimum && number <= maximum) return number;
  }
  fail(name, fmt::format("must be an integer from {} to {}, not {}", minimum, maximum, quoted_json(*value)));
  return std::nullopt;
}

double FieldReader::number(std::string_view name, double fallback, double minimum, double maximum) {
  const Json* value = take(name);
  if (value == nullptr) return fallback;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (number >= minimum && number <= maximum) return number;
  }
  fail(name, fmt::format("must be a number from {} to {}, not {}", minimum, maximum, quoted_json(*value)));
  return fallback;
}

void FieldReader::neutral(std::string_view name, std::initializer_list<Json> neutral) {
  const Json* value = take(name);
  if (value == nullptr || std::find(neutral.begin(), neutral.end(), *value) != neutral.end()) return;
  std::string accepted;
  for (const Json& n : neutral) accepted += " or send " + n.dump();
  fail(name, fmt::format("is {}, which this server does not support; leave it out{}", quoted_json(*value), accepted));
}

void FieldReader::fail(std::string_view name, std::string message) {
  const std::string param = path_ + std::string(name);
  fail(ApiError{.message = param + " " + message, .param = param});
}

void FieldReader::fail(ApiError error) {
  if (!error_) error_ = std::move(error);
}

ApiResult<void> FieldReader::finish() {
  if (error_) return tl::unexpected<ApiError>(*error_);
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
      std::string shown = quoted_json(Json(key));
      fail(ApiError{.message = fmt::format("unknown field {}; remove it or correct its name",
                                           path_.empty() ? shown : fmt::format("{} in {}", shown, path_.substr(0, path_.size() - 1))),
                    .param = path_ + shown.substr(1, shown.size() - 2)});
      return tl::unexpected<ApiError>(*error_);
    }
  }
  return {};
}

}  // namespace crible
