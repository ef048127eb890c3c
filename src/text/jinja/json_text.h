// JSON in and out of values. Out is Python's json.dumps, byte for byte, because models were trained
// on prompts that it wrote.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace crible::jinja {

// Integers above int64 become floats. Fails (TemplateError) when nested too deep.
Value from_json(const nlohmann::ordered_json& json);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<std::string> indent;  // one level of it; without, everything is on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// Fails (TemplateError) on a value that JSON cannot hold.
std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace crible::jinja
