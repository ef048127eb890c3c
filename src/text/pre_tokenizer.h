// Cuts text into the words inside which the model may merge: steps applied one after the other,
// each to the pieces that the one before left. The steps come from a rule that a GGUF file names
// (tokenizer.ggml.pre) or from a tokenizer.json.
// Immutable after make, safe to share between threads.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "text/text_pattern.h"

namespace crible {

// What becomes of the matches of a splitting pattern.
enum class SplitBehavior : uint8_t { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStep {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // what does not match is the match
};

enum class PrependScheme : uint8_t { kNever, kFirst, kAlways };

// Spaces become a visible character, one is put before the piece (all, or the text's first), and
// pieces are cut before each.
struct MetaspaceStep {
  std::string replacement;
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
};

// A space before each piece that does not begin with one.
struct PrefixSpaceStep {};

using PreTokenizerStep = std::variant<SplitStep, MetaspaceStep, PrefixSpaceStep>;

// The words of one text. Steps that change the text keep the changed text here.
struct WordList {
  std::vector<std::string_view> words;
  std::deque<std::string> owned;
};

struct PreTokenizerLimits {
  // Backtracking steps of one match. The rules in the table need a few per character of a run;
  // a match that needs more ends the word where the run stands (see split).
  uint32_t match_steps = 1u << 31;
};

class PreTokenizer {
 public:
  // The rule that a GGUF file names. kUnsupported, with the known names, when there is none.
  static Result<PreTokenizer> make(std::string_view name, PreTokenizerLimits limits = {});
  // Without steps: every text is one word.
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  // text: valid UTF-8. Appends words, none empty, to list.words. Unless a step removes or changes
  // characters, the words put together are the text. When a match runs into a limit, the rest of
  // that piece is one word: nothing is lost, and the next step and the model still apply to it.
  // at_text_start: text is the beginning of what is encoded, not a piece after an added token.
  void split(std::string_view text, bool at_text_start, WordList& list) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace crible
