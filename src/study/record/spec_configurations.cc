// Base knobs, named configurations and axes.
#include <algorithm>
#include <utility>

#include "study/record/knobs.h"
#include "study/record/spec_parser.h"

namespace crible::study {
namespace {

// A grid larger than this is a slip: at a minute a visit, five blocks of it take a day.
constexpr size_t kMostConfigurations = 256;

std::vector<std::string_view> configuration_keys() {
  std::vector<std::string_view> keys = knob_names();
  keys.insert(keys.begin(), {"name", "url"});
  return keys;
}

bool is_knob(const std::string& key) {
  const std::vector<std::string_view> names = knob_names();
  return std::ranges::find(names, key) != names.end();
}

}  // namespace

Result<std::string> SpecParser::read_knob(const Entry& entry, const YAML::Node& value) const {
  CRIBLE_TRY(const std::string text, reader_.text(value, entry.key));
  Result<std::string> canonical = canonical_knob(entry.key, text);
  if (!canonical) return tl::unexpected<Error>(reader_.at(value, canonical.error()));
  return canonical;
}

Status SpecParser::parse_base(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "base"));
  for (const Entry& entry : entries) {
    if (!is_knob(entry.key)) return reader_.unknown_key(entry, "base", knob_names());
    CRIBLE_TRY(spec_.base[entry.key], read_knob(entry, entry.value));
  }
  return {};
}

Status SpecParser::parse_configurations(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<YAML::Node> items, reader_.items(node, "configurations"));
  for (size_t i = 0; i < items.size(); ++i) {
    CRIBLE_RETURN_IF_ERROR(parse_configuration(items[i], i));
  }
  return {};
}

Status SpecParser::parse_configuration(const YAML::Node& node, size_t index) {
  const std::string what = fmt::format("configuration {}", index + 1);
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, what));
  ConfigurationSpec configuration;
  for (const Entry& entry : entries) {
    if (entry.key == "name") {
      CRIBLE_TRY(configuration.name, reader_.text(entry.value, "name"));
    } else if (entry.key == "url") {
      CRIBLE_TRY(configuration.url, reader_.text(entry.value, "url"));
    } else if (is_knob(entry.key)) {
      CRIBLE_TRY(configuration.own[entry.key], read_knob(entry, entry.value));
    } else {
      return reader_.unknown_key(entry, what, configuration_keys());
    }
  }
  if (!is_plain_name(configuration.name)) {
    return reader_.error(node, fmt::format("{} needs a 'name' of letters, digits and _ - . = + , only",
                                           what));
  }
  return add_configuration(std::move(configuration), node);
}

// The cartesian product of the axes, in the order of the file, the last axis running fastest.
Status SpecParser::parse_axes(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "axes"));
  if (entries.empty()) return {};
  std::vector<ConfigurationSpec> product(1);
  for (const Entry& entry : entries) {
    if (!is_knob(entry.key)) return reader_.unknown_key(entry, "axes", knob_names());
    CRIBLE_TRY(const std::vector<YAML::Node> values, reader_.items(entry.value, entry.key));
    if (values.empty()) {
      return reader_.error(entry.value, fmt::format("the axis {} has no value", entry.key));
    }
    std::vector<ConfigurationSpec> wider;
    for (const ConfigurationSpec& partial : product) {
      for (const YAML::Node& value : values) {
        ConfigurationSpec extended = partial;
        CRIBLE_TRY(extended.own[entry.key], read_knob(entry, value));
        extended.name += fmt::format("{}{}={}", partial.name.empty() ? "" : "+", entry.key,
                                     extended.own[entry.key]);
        wider.push_back(std::move(extended));
      }
      if (wider.size() > kMostConfigurations) {
        return reader_.error(entry.key_node, fmt::format("the axes' product has more than {} "
                                                         "configurations; give fewer values",
                                                         kMostConfigurations));
      }
    }
    product = std::move(wider);
  }
  for (ConfigurationSpec& configuration : product) {
    CRIBLE_RETURN_IF_ERROR(add_configuration(std::move(configuration), node));
  }
  return {};
}

Status SpecParser::add_configuration(ConfigurationSpec configuration, const YAML::Node& place) {
  configuration.knobs = spec_.base;
  for (const auto& [name, value] : configuration.own) configuration.knobs[name] = value;
  if (spec_.target.engine == TargetEngine::kUrl) {
    if (configuration.url.empty()) configuration.url = spec_.target.url;
    if (configuration.url.empty()) {
      return reader_.error(place, fmt::format("{} needs a 'url', its own or the target's",
                                              configuration.name));
    }
  } else if (!configuration.url.empty()) {
    return reader_.error(place, fmt::format("{} has a url, but the target's engine is crible; give "
                                            "engine: url to measure servers that run already",
                                            configuration.name));
  }
  if (spec_.configurations.size() == kMostConfigurations) {
    return reader_.error(place, fmt::format("a study takes at most {} configurations",
                                            kMostConfigurations));
  }
  CRIBLE_RETURN_IF_ERROR(check_distinct(configuration, place));
  spec_.configurations.push_back(std::move(configuration));
  return {};
}

// Two rows that measure the same thing would be compared as if they differed.
Status SpecParser::check_distinct(const ConfigurationSpec& configuration,
                                  const YAML::Node& place) const {
  const bool one_server_each = spec_.target.engine == TargetEngine::kUrl;
  for (const ConfigurationSpec& other : spec_.configurations) {
    if (other.name == configuration.name) {
      return reader_.error(place, fmt::format("two configurations are named {}", other.name));
    }
    if (one_server_each && other.url == configuration.url) {
      return reader_.error(place, fmt::format("{} and {} have the same url {}: the same server would "
                                              "be measured twice",
                                              other.name, configuration.name, other.url));
    }
    if (!one_server_each && differing_knobs(other.knobs, configuration.knobs).empty()) {
      return reader_.error(
          place, fmt::format("{} and {} are the same configuration: no knob differs, defaults included "
                             "({} against {}); change one, or remove it",
                             other.name, configuration.name, knobs_json(other.knobs),
                             knobs_json(configuration.knobs)));
    }
  }
  return {};
}

}  // namespace crible::study
