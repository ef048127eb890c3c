// The shape of a language's table of phrases, and its check while compiling.
#pragma once

#include <array>
#include <string_view>

#include "report/phrases.h"

namespace crible::report {

struct PhraseWords {
  Phrase phrase;
  std::string_view words;
};
using PhraseTable = std::array<PhraseWords, kPhraseCount>;

// Every phrase once, in order, with words: so that the table can be indexed by phrase.
constexpr bool is_complete(const PhraseTable& table) {
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].phrase != static_cast<Phrase>(i) || table[i].words.empty()) return false;
  }
  return true;
}

}  // namespace crible::report
