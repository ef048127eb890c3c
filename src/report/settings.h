// Settings as the report shows them: a flat view of the JSON objects that servers and specs hold.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "study/record/study_result.h"

namespace crible::report {

// Setting name (with hyphens) -> text. Empty when `json` is no JSON object; nested objects are
// left out, for they are not settings.
std::map<std::string, std::string> settings_of(const std::string& json);

// The effective value, or the one asked for when the server never told.
struct Setting {
  std::string value;
  bool effective = false;
};
std::optional<Setting> setting(const study::ConfigurationResult& configuration,
                               const std::string& name);

// The settings that the study states anywhere, in effect in this configuration: what a production
// server must be given. Values asked for where the server never told.
std::map<std::string, std::string> settings_to_deploy(const study::StudyResult& study,
                                                      const study::ConfigurationResult& configuration);

// "crible serve MODEL \\\n  --max-num-seqs 32 ...": features off by their explicit negative.
std::string launch_command(const study::StudyResult& study,
                           const study::ConfigurationResult& configuration);

}  // namespace crible::report
