// Reads the fields of one JSON object, each once, by name, type and range. The first thing wrong is
// what finish() reports; a field that nobody asked for is wrong too, since a knob that is misspelt
// and passed over would fake a measurement. null counts as absent, as OpenAI's clients mean it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/api_error.h"
#include "wire/json_text.h"

namespace crible {

class FieldReader {
 public:
  // object must outlive the reader. path is put before field names in messages: "stream_options.".
  explicit FieldReader(const Json& object, std::string path = {});

  // The value, now counted as known; null when absent.
  const Json* take(std::string_view name);
  bool flag(std::string_view name, bool fallback);
  std::string text(std::string_view name, std::string fallback = {});
  std::optional<int64_t> integer(std::string_view name, int64_t minimum, int64_t maximum);
  double number(std::string_view name, double fallback, double minimum, double maximum);

  // Accepted whatever it holds: changes no result.
  void ignore(std::string_view name) { take(name); }
  // A field of the protocol that this server does not act on yet: only values that ask for nothing
  // pass (`neutral`, and null).
  void neutral(std::string_view name, std::initializer_list<Json> neutral);

  void fail(std::string_view name, std::string message);
  void fail(ApiError error);
  bool failed() const { return error_.has_value(); }
  // The first error, if there was one; otherwise one for each field never asked for.
  ApiResult<void> finish();

 private:
  const Json& object_;
  std::string path_;
  std::vector<std::string_view> known_;
  std::optional<ApiError> error_;
};

// The value as it may stand in a message: cut short, always valid UTF-8.
std::string quoted_json(const Json& value);

}  // namespace crible
