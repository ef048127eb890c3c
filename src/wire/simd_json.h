// The quick way from text to a document: simdjson reads, and its tree is copied into Json. A prompt of many token ids
// is what this is for: one of 16,000 takes the document's own parser 3 ms, more than the engine's whole wait for a
// cached prefix leaves room for.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string_view>

namespace crible {

// What nlohmann::ordered_json::parse() gives, or nothing: of text that is invalid, and of valid text with a number
// beyond 64 bits or a double's range, which that parser decides on. Any thread; recursion as deep as the text nests.
std::optional<nlohmann::ordered_json> parse_with_simd(std::string_view text);

}  // namespace crible
