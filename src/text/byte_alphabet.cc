#include "text/byte_alphabet.h"

#include <array>
#include <charconv>

namespace crible {
namespace {

// The highest code point of the alphabet: 256 + 68 - 1.
constexpr uint32_t kLastCodePoint = 0x143;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> to_code_point{};
  std::array<int16_t, kLastCodePoint + 1> to_byte{};  // -1 outside the alphabet
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.to_byte) byte = -1;
  uint16_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const uint16_t code_point = stands_for_itself(byte) ? static_cast<uint16_t>(byte) : next++;
    alphabet.to_code_point[byte] = code_point;
    alphabet.to_byte[code_point] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();
static_assert(kAlphabet.to_byte[kLastCodePoint] == 0xAD);

}  // namespace

uint32_t byte_to_code_point(uint8_t byte) {
  return kAlphabet.to_code_point[byte];
}

std::optional<std::string> bytes_from_alphabet(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint8_t first = static_cast<uint8_t>(text[i]);
    uint32_t code_point = first;
    size_t length = 1;
    if (first >= 0x80) {
      // The alphabet ends below U+0800: one or two bytes each.
      if (first < 0xC2 || first > 0xDF || i + 1 >= text.size()) return std::nullopt;
      const uint8_t second = static_cast<uint8_t>(text[i + 1]);
      if ((second & 0xC0) != 0x80) return std::nullopt;
      code_point = (uint32_t{first} & 0x1F) << 6 | (second & 0x3F);
      length = 2;
    }
    if (code_point > kLastCodePoint || kAlphabet.to_byte[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.to_byte[code_point]));
    i += length;
  }
  return bytes;
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const uint32_t code_point = byte_to_code_point(static_cast<uint8_t>(c));
    if (code_point < 0x80) {
      text.push_back(static_cast<char>(code_point));
    } else {
      text.push_back(static_cast<char>(0xC0 | code_point >> 6));
      text.push_back(static_cast<char>(0x80 | (code_point & 0x3F)));
    }
  }
  return text;
}

std::optional<uint8_t> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  unsigned value = 0;
  const char* end = text.data() + 5;
  const auto parsed = std::from_chars(text.data() + 3, end, value, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return static_cast<uint8_t>(value);
}

}  // namespace crible
