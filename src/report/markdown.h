// Renders the document as GitHub-flavoured Markdown. Figures are left out: their numbers stand in
// the tables.
#pragma once

#include <string>

#include "report/document.h"

namespace crible::report {

std::string render_markdown(const Document& document);

}  // namespace crible::report
