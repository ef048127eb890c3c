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
std::optional<Setting> setting(const study::ConfigurationResult& configuration, const std::string& name);

// The settings that the study states for any of its configurations, with this one's values.
std::map<std::string, std::string> stated_settings(const study::StudyResult& study,
                                                   const study::ConfigurationResult& configuration);

// What a production server must be given to be the one that was measured: every knob in effect.
// The stated ones where no server told.
std::map<std::string, std::string> settings_to_deploy(const study::StudyResult& study,
                                                      const study::ConfigurationResult& configuration);

// "crible serve MODEL \\\n  --max-num-seqs 32 ...": features off by their explicit negative.
std::string launch_command(const study::StudyResult& study, const study::ConfigurationResult& configuration);

}  // namespace crible::report
