// Rewrites text before it is cut into words, step by step, as a tokenizer file asks: Unicode
// normal forms, lower case, replacements, what is put before, white space taken off.
// Immutable once built, safe to share between threads. Cost is n log n in the text whatever it holds.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/text_pattern.h"

namespace crible {

enum class UnicodeForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// UAX #15. text: valid UTF-8.
std::string to_unicode_form(std::string_view text, UnicodeForm form);

struct LowercaseStep {};
struct PrependStep {
  std::string prefix;  // put before any text that is not empty
};
struct LiteralReplaceStep {
  std::string from;  // not empty
  std::string to;
};
struct PatternReplaceStep {
  TextPattern from;
  std::string to;
};
struct StripStep {
  bool left;
  bool right;
};
// SentencePiece's remove_extra_whitespaces: none at the ends, one where there were several.
struct CollapseSpacesStep {};

using NormalizerStep = std::variant<UnicodeForm, LowercaseStep, PrependStep, LiteralReplaceStep,
                                    PatternReplaceStep, StripStep, CollapseSpacesStep>;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  bool empty() const { return steps_.empty(); }
  // text: valid UTF-8; so is the result.
  std::string apply(std::string_view text) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace crible
