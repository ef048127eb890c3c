// Every fixed sentence and label of the report, in each language. The tables are checked for
// completeness while compiling; a test holds that both languages use the same arguments.
#pragma once

#include <string_view>

#include "report/number_format.h"
#include "report/phrases.h"

namespace crible::report {

// With {0}, {1}, ... where arguments go (scribe.h). French has its narrow spaces in place.
std::string_view phrase_text(Phrase phrase, Language language);

// The tables, one file per language (wording_en.cc, wording_fr.cc).
std::string_view english_phrase(Phrase phrase);
std::string_view french_phrase(Phrase phrase);

}  // namespace crible::report
