// The report's end on a terminal: one line per configuration and per use case, within a width.
#pragma once

#include <string>

#include "report/sections.h"

namespace crible::report {

// Columns that do not fit are left out, from the right; names are shortened last.
std::string render_console(const ReportContext& context, size_t columns, bool colour);

}  // namespace crible::report
