// How tokens become text again: which bytes each token stands for, and what happens to the space
// that encoding put before the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocabulary.h"

namespace crible {

enum class LeadingSpace : uint8_t {
  kKeep,
  kDropOne,           // one space at the beginning of the text
  kDropInFirstToken,  // every space mark of the first token
};

struct TokenTextRules {
  bool byte_alphabet = true;   // normal tokens are written in the byte alphabet
  bool byte_fallback = false;  // "<0x0A>" is a byte, whatever its kind
  std::vector<std::pair<std::string, std::string>> replacements;  // in order: "▁" by " "
  bool replace_in_added = false;                                  // else only in normal tokens
  LeadingSpace leading_space = LeadingSpace::kKeep;
};

// The bytes of a token, possibly part of a character. Added tokens: their text.
std::string bytes_of_token(std::string_view text, TokenKind kind, const TokenTextRules& rules);

}  // namespace crible
