// Members of a JSON object read from a file, with errors that name the path. An absent member and a
// null one are the same.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible {

// The document of a file's text; "discarded" when it is not JSON. Without exceptions, and the parser
// keeps no recursion, so deep nesting is no danger.
nlohmann::json parse_file_json(std::string_view text);

// Null when object is no object or has no such member.
const nlohmann::json* find_member(const nlohmann::json& object, std::string_view name);

// where: what the object is, for messages. kCorrupt when the member has another type.
Result<std::optional<std::string>> read_string(const nlohmann::json& object, std::string_view name,
                                               std::string_view where);
Result<std::optional<bool>> read_flag(const nlohmann::json& object, std::string_view name,
                                      std::string_view where);
Result<std::optional<int64_t>> read_integer(const nlohmann::json& object, std::string_view name,
                                            std::string_view where);
// An array; null when absent.
Result<const nlohmann::json*> read_array(const nlohmann::json& object, std::string_view name,
                                         std::string_view where);

}  // namespace crible
