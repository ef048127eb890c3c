// Scenarios and their parameters: a list of names, or of name: {parameter: value}.
#include <algorithm>
#include <array>
#include <utility>

#include "config/field_table.h"
#include "study/record/scenario_table.h"
#include "study/record/spec_parser.h"

namespace crible::study {
namespace {

// Scenarios with a meaning of their own that this version does not run.
constexpr std::array<std::string_view, 4> kNotRunYet = {"reasoning", "tool_calling", "long_context",
                                                        "soak"};
constexpr size_t kMostListValues = 64;

template <typename Row>
std::vector<std::string_view> names_of(std::span<const Row> rows) {
  std::vector<std::string_view> names;
  for (const Row& row : rows) names.push_back(row.name);
  return names;
}

Result<double> read_value(const YamlReader& reader, const YAML::Node& node,
                          const ScenarioParameter& parameter, const std::string& what) {
  if (!parameter.is_integer) return reader.number(node, what, parameter.minimum, parameter.maximum);
  CRIBLE_TRY(const int64_t value,
             reader.integer(node, what, static_cast<int64_t>(parameter.minimum),
                            static_cast<int64_t>(parameter.maximum)));
  return static_cast<double>(value);
}

Result<std::vector<double>> read_values(const YamlReader& reader, const YAML::Node& node,
                                        const ScenarioParameter& parameter,
                                        const std::string& what) {
  if (!parameter.is_list || node.IsScalar()) {
    CRIBLE_TRY(const double value, read_value(reader, node, parameter, what));
    return std::vector<double>{value};
  }
  CRIBLE_TRY(const std::vector<YAML::Node> items, reader.items(node, what));
  if (items.empty() || items.size() > kMostListValues) {
    return reader.error(node, fmt::format("{} must list 1 to {} values", what, kMostListValues));
  }
  std::vector<double> values;
  for (const YAML::Node& item : items) {
    CRIBLE_TRY(const double value, read_value(reader, item, parameter, what));
    values.push_back(value);
  }
  return values;
}

}  // namespace

Status SpecParser::parse_scenarios(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<YAML::Node> items, reader_.items(node, "scenarios"));
  for (const YAML::Node& item : items) {
    if (item.IsScalar()) {
      CRIBLE_RETURN_IF_ERROR(parse_scenario(item.Scalar(), item, YAML::Node()));
      continue;
    }
    CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(item, "a scenario"));
    for (const Entry& entry : entries) {
      CRIBLE_RETURN_IF_ERROR(parse_scenario(entry.key, entry.key_node, entry.value));
    }
  }
  if (spec_.scenarios.empty()) return reader_.error(node, "the study has no scenario");
  return {};
}

Status SpecParser::parse_scenario(const std::string& name, const YAML::Node& place,
                                  const YAML::Node& parameters) {
  const ScenarioInfo* info = find_scenario(name);
  if (info == nullptr) {
    const std::vector<std::string_view> known = names_of(scenario_table());
    if (std::ranges::find(kNotRunYet, name) != kNotRunYet.end()) {
      Error unsupported{ErrorCode::kUnsupported,
                        fmt::format("this version does not run the scenario {}; it runs {}", name,
                                    fmt::join(known, ", "))};
      return tl::unexpected<Error>(reader_.at(place, std::move(unsupported)));
    }
    return reader_.error(place, fmt::format("unknown scenario '{}'{}; known: {}", name,
                                            suggest(name, known), fmt::join(known, ", ")));
  }
  if (std::ranges::find(spec_.scenarios, name, &ScenarioSpec::name) != spec_.scenarios.end()) {
    return reader_.error(place, fmt::format("the scenario {} is given twice", name));
  }
  ScenarioSpec scenario{name, {}};
  for (const ScenarioParameter& parameter : info->parameters) {
    scenario.parameters[std::string(parameter.name)] = parameter.defaults;
  }
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(parameters, name));
  for (const Entry& entry : entries) {
    const auto parameter =
        std::ranges::find(info->parameters, entry.key, &ScenarioParameter::name);
    if (parameter == info->parameters.end()) {
      return reader_.unknown_key(entry, name,
                                 names_of(std::span<const ScenarioParameter>(info->parameters)));
    }
    CRIBLE_TRY(scenario.parameters[entry.key],
               read_values(reader_, entry.value, *parameter, name + "." + entry.key));
  }
  spec_.scenarios.push_back(std::move(scenario));
  return {};
}

}  // namespace crible::study
