#include "text/added_tokens.h"

#include <algorithm>

#include "text/white_space.h"

namespace crible {

void AddedTokens::add(std::string_view text, bool control, const AddedToken& traits) {
  all_.add(text, traits.id);
  if (!control) plain_.add(text, traits.id);
  if (traits.strip_left || traits.strip_right || traits.single_word) traits_[traits.id] = traits;
}

AddedTokens::Match AddedTokens::find(std::string_view text, size_t from, bool parse_special) const {
  const TokenTrie& trie = parse_special ? all_ : plain_;
  for (size_t at = from;;) {
    const TokenTrie::Match found = trie.find(text, at);
    if (found.length == 0) return {};
    Match match{found.begin, found.begin + found.length, found.token};
    if (traits_.empty()) return match;
    const auto traits = traits_.find(found.token);
    if (traits == traits_.end()) return match;
    if (traits->second.single_word && (ends_with_word_character(text.substr(0, match.begin)) ||
                                       begins_with_word_character(text.substr(match.end)))) {
      at = match.end;
      continue;
    }
    if (traits->second.strip_left) {
      match.begin -= trailing_white_space(text.substr(from, match.begin - from));
    }
    if (traits->second.strip_right) match.end += leading_white_space(text.substr(match.end));
    return match;
  }
}

}  // namespace crible
