// JSON at the edge: text from a client into a document, within limits and with a message that says
// where it is wrong; strings out without building a document.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "wire/api_error.h"

namespace crible {

// Objects keep the order in which a client wrote them: chat templates print them.
using Json = nlohmann::ordered_json;

// Deeper nesting than any real request has; a document of brackets alone must cost nothing.
inline constexpr int kMaxJsonDepth = 64;

// 400 for invalid JSON, invalid UTF-8, a lone surrogate, trailing text or too deep nesting.
ApiResult<Json> parse_json(std::string_view text);

// Appends `text`, which must be UTF-8, as a JSON string with its quotes.
void append_json_string(std::string& out, std::string_view text);

}  // namespace crible
