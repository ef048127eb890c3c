#include "report/wording.h"

namespace crible::report {

std::string_view phrase_text(Phrase phrase, Language language) {
  return language == Language::kFrench ? french_phrase(phrase) : english_phrase(phrase);
}

}  // namespace crible::report
