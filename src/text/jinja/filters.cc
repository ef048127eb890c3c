#include "text/jinja/filters.h"

#include <unordered_map>

namespace crible::jinja {

Function find_filter(std::string_view name) {
  static const auto kTable = [] {
    std::unordered_map<std::string_view, Function> table;
    for (const auto* part : {&scalar_filters(), &sequence_filters()}) {
      for (const NamedFunction& filter : *part) table.emplace(filter.name, filter.function);
    }
    return table;
  }();
  const auto found = kTable.find(name);
  return found == kTable.end() ? nullptr : found->second;
}

}  // namespace crible::jinja
