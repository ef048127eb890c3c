// Cuts text into the words inside which BPE may merge. The rule is named by the model's file
// (tokenizer.ggml.pre) and consists of regular expressions applied one after the other: each cuts
// the pieces that the one before left, at its matches and at the gaps between them.
// Immutable after make, safe to share between threads.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crible {

struct PreTokenizerLimits {
  // Backtracking steps of one match. The rules in the table need a few per character of a run;
  // a match that needs more ends the word where the run stands (see split).
  uint32_t match_steps = 1u << 31;
};

class PreTokenizer {
 public:
  // kUnsupported, with the known names, when the rule is not in the table.
  static Result<PreTokenizer> make(std::string_view name, PreTokenizerLimits limits = {});
  static std::vector<std::string_view> known_names();

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // text: valid UTF-8. Appends words that, put together, are the text; none is empty. When a match
  // runs into a limit, the rest of that piece is one word: nothing is lost, and the next rule and
  // BPE still apply to it.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

  // A word that is itself in the vocabulary is that token, whatever the merges say.
  bool ignore_merges() const { return ignore_merges_; }
  // Whether this family puts a beginning-of-sequence token first when the file does not say.
  bool add_bos_by_default() const { return add_bos_by_default_; }

 private:
  struct Pattern;
  PreTokenizer();

  std::vector<Pattern> patterns_;
  bool ignore_merges_ = false;
  bool add_bos_by_default_ = false;
};

}  // namespace crible
