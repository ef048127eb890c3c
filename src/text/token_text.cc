#include "text/token_text.h"

#include "text/byte_alphabet.h"

namespace crible {
namespace {

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

}  // namespace

std::string bytes_of_token(std::string_view text, TokenKind kind, const TokenTextRules& rules) {
  if (kind == TokenKind::kByte || (rules.byte_fallback && kind == TokenKind::kNormal)) {
    if (const auto byte = parse_byte_token(text)) return std::string(1, static_cast<char>(*byte));
  }
  std::string bytes(text);
  if (kind != TokenKind::kNormal && !rules.replace_in_added) return bytes;
  if (rules.byte_alphabet && kind == TokenKind::kNormal) {
    // Files exist whose added tokens are marked normal: text outside the alphabet is literal.
    if (auto decoded = bytes_from_alphabet(text)) bytes = *std::move(decoded);
  }
  for (const auto& [from, to] : rules.replacements) bytes = replace_all(std::move(bytes), from, to);
  return bytes;
}

}  // namespace crible
