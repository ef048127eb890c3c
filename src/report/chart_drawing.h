// One drawing function per kind of chart (chart.h dispatches to them).
#pragma once

#include <string>

#include "report/chart.h"

namespace crible::report {

std::string draw_chart(const IntervalChart& chart, const std::string& title, const NumberFormat& numbers);
std::string draw_chart(const LineChart& chart, const std::string& title, const NumberFormat& numbers);
std::string draw_chart(const BarChart& chart, const std::string& title, const NumberFormat& numbers);

}  // namespace crible::report
