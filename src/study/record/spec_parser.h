// The grammar of a study's spec, one method per key. Reads in two passes: first the keys in the
// order of the file, then what depends on several of them (configurations on base and axes,
// objectives on scenarios). Used through parse_spec (spec.h).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "study/record/spec.h"
#include "study/record/yaml_reader.h"

namespace crible::study {

class SpecParser {
 public:
  explicit SpecParser(const std::string& source_name) : reader_(source_name) {}
  Result<StudySpec> parse(const std::string& yaml);

 private:
  using Entry = YamlReader::Entry;

  Status parse_name(const YAML::Node& node);
  Status parse_language(const YAML::Node& node);
  Status parse_blocks(const YAML::Node& node);
  Status parse_seed(const YAML::Node& node);
  Status parse_time_budget(const YAML::Node& node);
  Status parse_margin(const YAML::Node& node);

  Status parse_target(const YAML::Node& node);
  Status parse_engine(const YAML::Node& node);
  Status check_target(const YAML::Node& node) const;

  // spec_configurations.cc
  Status parse_base(const YAML::Node& node);
  Status parse_configurations(const YAML::Node& node);
  Status parse_configuration(const YAML::Node& node, size_t index);
  Status parse_axes(const YAML::Node& node);
  Status add_configuration(ConfigurationSpec configuration, const YAML::Node& place);
  Status check_distinct(const ConfigurationSpec& configuration, const YAML::Node& place) const;
  Result<std::string> read_knob(const Entry& entry, const YAML::Node& value) const;

  // spec_scenarios.cc
  Status parse_scenarios(const YAML::Node& node);
  Status parse_scenario(const std::string& name, const YAML::Node& place,
                        const YAML::Node& parameters);

  // spec_objectives.cc
  Status parse_service_levels(const YAML::Node& node);
  Status parse_objectives(const YAML::Node& node);
  Status parse_objective(const Entry& entry);
  Result<MetricReference> read_reference(const YAML::Node& node, const std::string& text) const;
  Status parse_constraints(const YAML::Node& node, ObjectiveSpec& objective);

  YamlReader reader_;
  StudySpec spec_;
  // Keys read in the second pass.
  std::map<std::string, YAML::Node, std::less<>> later_;
};

// A word for names that become part of ids, file names and table rows.
bool is_plain_name(std::string_view name);

}  // namespace crible::study
