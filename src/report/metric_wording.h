// Names of metrics and scenarios for people, in each language. English definitions come from the
// study's own tables (study/record); a test holds that every entry of those has its words here.
#pragma once

#include <string>
#include <string_view>

#include "report/number_format.h"

namespace crible::report {

// The technical name itself for a metric or scenario that has no words here.
std::string metric_label_words(std::string_view metric, Language language);
std::string metric_definition(std::string_view metric, Language language);
std::string scenario_definition(std::string_view scenario, Language language);
// Known use cases by their words; others by their name with spaces ("rag_answers" -> "Rag answers").
std::string objective_words(std::string_view objective, Language language);

bool has_metric_words(std::string_view metric);
bool has_scenario_words(std::string_view scenario);

}  // namespace crible::report
