#include "report/settings.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "study/record/knobs.h"

namespace crible::report {
namespace {

// Quotes for a POSIX shell only where a word needs it.
std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./:=+,@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

}  // namespace

std::map<std::string, std::string> settings_of(const std::string& json) {
  const nlohmann::json object = nlohmann::json::parse(json, nullptr, false);
  std::map<std::string, std::string> settings;
  if (!object.is_object()) return settings;
  for (const auto& [key, value] : object.items()) {
    if (value.is_structured()) continue;
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', '-');
    settings[name] = value.is_string() ? value.get<std::string>()
                                       : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  return settings;
}

std::optional<Setting> setting(const study::ConfigurationResult& configuration, const std::string& name) {
  const auto effective = settings_of(configuration.effective_json);
  if (const auto found = effective.find(name); found != effective.end()) {
    return Setting{found->second, true};
  }
  if (const auto found = configuration.requested.find(name); found != configuration.requested.end()) {
    return Setting{found->second, false};
  }
  return std::nullopt;
}

std::map<std::string, std::string> stated_settings(const study::StudyResult& study,
                                                   const study::ConfigurationResult& configuration) {
  std::set<std::string> names;
  for (const study::ConfigurationResult& any : study.configurations) {
    for (const auto& [name, value] : any.requested) names.insert(name);
  }
  std::map<std::string, std::string> settings;
  for (const std::string& name : names) {
    if (const auto value = setting(configuration, name)) settings[name] = value->value;
  }
  return settings;
}

std::map<std::string, std::string> settings_to_deploy(const study::StudyResult& study,
                                                      const study::ConfigurationResult& configuration) {
  const auto effective = settings_of(configuration.effective_json);
  std::map<std::string, std::string> settings;
  for (const std::string_view name : study::knob_names()) {
    const auto found = effective.find(std::string(name));
    if (found != effective.end()) settings.insert(*found);
  }
  return settings.empty() ? stated_settings(study, configuration) : settings;
}

std::string launch_command(const study::StudyResult& study, const study::ConfigurationResult& configuration) {
  std::string command = "crible serve " + shell_word(study.spec.target.model);
  for (const auto& [name, value] : settings_to_deploy(study, configuration)) {
    command += " \\\n  ";
    if (value == "true") {
      command += "--" + name;
    } else if (value == "false") {
      command += "--no-" + name;
    } else {
      command += "--" + name + " " + shell_word(value);
    }
  }
  for (const std::string& argument : study.spec.target.arguments) {
    command += " \\\n  " + shell_word(argument);
  }
  return command;
}

}  // namespace crible::report
