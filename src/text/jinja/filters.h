// The filters (`value | name`) and tests (`value is name`) of templates, and the global functions.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"

namespace crible::jinja {

struct NamedFunction {
  std::string_view name;
  Function function;
};

// nullptr when there is no such filter, test.
Function find_filter(std::string_view name);
Function find_test(std::string_view name);

// range, namespace, dict, raise_exception, strftime_now: shared by all renders.
const std::vector<std::pair<std::string_view, Value>>& global_functions();

// Parts of the filter table: over text and numbers, over sequences.
const std::vector<NamedFunction>& scalar_filters();
const std::vector<NamedFunction>& sequence_filters();

}  // namespace crible::jinja
