// The byte alphabet of byte-level BPE (GPT-2, 2019): every byte has a printable character of its own,
// so that vocabularies can be text files. Printable Latin-1 bytes stand for themselves; the other 68
// stand, in order, for U+0100 and up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace crible {

// The code point that stands for a byte.
uint32_t byte_to_code_point(uint8_t byte);

// "Ġhello" -> " hello". Nothing when the text holds a character outside the alphabet.
std::optional<std::string> bytes_from_alphabet(std::string_view text);

// " hello" -> "Ġhello".
std::string bytes_to_alphabet(std::string_view bytes);

// "<0x0A>", the other way of writing a byte's token, -> 10. Nothing for another text.
std::optional<uint8_t> parse_byte_token(std::string_view text);

}  // namespace crible
