// The word-splitting rules that GGUF files name in tokenizer.ggml.pre, as PCRE2 expressions.
// Values only; PreTokenizer compiles them.
#pragma once

#include <array>
#include <string_view>
#include <vector>

namespace crible {

struct SplittingRule {
  std::string_view name;
  std::array<const char*, 4> patterns;  // applied one after the other; unused places are null
  // A word that is itself in the vocabulary is that token, whatever the merges say.
  bool ignore_merges = false;
  // Whether this family puts a beginning-of-sequence token first when the file does not say.
  bool add_bos = false;
};

// Null when there is none of that name.
const SplittingRule* find_splitting_rule(std::string_view name);
std::vector<std::string_view> splitting_rule_names();

}  // namespace crible
