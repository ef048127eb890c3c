// What every tokenizer must do, however it was made: encode any text to ids that it has, and decode
// them.
#pragma once

#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace crible {

inline void exercise_tokenizer(const Tokenizer& tokenizer) {
  constexpr std::string_view kTexts[] = {"", " ", "Hello  world, it's 2024!\n\n\t<s>",
                                         "e\xCC\x81 \xE2\x96\x81\xE6\xBC\xA2\xF0\x9F\x98\x80 \xFF",
                                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"};
  for (const std::string_view text : kTexts) {
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
      CHECK(tokenizer.check_ids(ids).has_value());
      CHECK(is_valid_utf8(tokenizer.decode(ids, special)));
    }
  }
}

}  // namespace crible
