#include "study/run/knob_flags.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "study/record/knobs.h"

namespace crible::study {
namespace {

bool is_switch(const std::string& name) {
  const auto field = engine_fields().find(name);
  return field && std::holds_alternative<bool>(FieldTable<EngineConfig>::get(EngineConfig{}, **field));
}

}  // namespace

std::vector<std::string> knob_flags(const Knobs& knobs) {
  std::vector<std::string> flags;
  for (const auto& [name, value] : knobs) {
    if (is_switch(name)) {
      flags.push_back((value == "true" ? "--" : "--no-") + name);
    } else {
      flags.push_back("--" + name);
      flags.push_back(value);
    }
  }
  return flags;
}

std::vector<std::string> serve_command(const std::filesystem::path& program, const TargetSpec& target,
                                       const Knobs& knobs, const std::filesystem::path& ready_file) {
  std::vector<std::string> words = {program.string(),   "serve",  target.model, "--host",
                                    "127.0.0.1",        "--port", "0",          "--ready-file",
                                    ready_file.string()};
  const std::vector<std::string> flags = knob_flags(knobs);
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), target.arguments.begin(), target.arguments.end());
  return words;
}

std::string live_settings_json(const Knobs& knobs) {
  const nlohmann::json all = engine_fields().to_json(to_engine_config(knobs));
  nlohmann::json live = nlohmann::json::object();
  for (const auto& field : engine_fields().fields()) {
    const std::string name(field.name);
    if (field.live) live[name] = all.at(name);
  }
  return live.dump();
}

std::vector<std::string> restart_only_differences(const Knobs& from, const Knobs& to) {
  std::vector<std::string> names = differing_knobs(from, to);
  std::erase_if(names, [](const std::string& name) {
    const auto field = engine_fields().find(name);
    return field && (*field)->live;
  });
  return names;
}

std::string shell_line(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789-_./:=,+@%") == std::string::npos;
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace crible::study
