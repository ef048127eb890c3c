// Renders the document as one self-contained page: style and figures inline, no script, nothing
// fetched (its content security policy forbids it). Light, dark and print from one markup.
#pragma once

#include <string>
#include <string_view>

#include "report/document.h"
#include "report/number_format.h"

namespace crible::report {

std::string render_html(const Document& document, const NumberFormat& numbers);

std::string_view page_style();  // page_style.cc

}  // namespace crible::report
