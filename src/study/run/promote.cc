#include "study/run/promote.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"
#include "study/record/knobs.h"
#include "study/run/knob_flags.h"

namespace crible::study {
namespace {

using nlohmann::json;

// The effective values as knobs, in the spelling of the command line.
Knobs effective_knobs(const std::string& effective_json) {
  Knobs knobs;
  const json effective = json::parse(effective_json, nullptr, false);
  if (!effective.is_object()) return knobs;
  for (const auto& [name, value] : effective.items()) {
    const auto canonical = canonical_knob(name, value.is_string() ? value.get<std::string>() : value.dump());
    if (canonical) knobs[name] = *canonical;
  }
  return knobs;
}

std::string launch_script(const StudyResult& result, const ConfigurationResult& configuration) {
  std::vector<std::string> words = {"crible", "serve", result.spec.target.model};
  for (const std::string& flag : knob_flags(effective_knobs(configuration.effective_json)))
    words.push_back(flag);
  for (const std::string& word : result.spec.target.arguments) words.push_back(word);
  return fmt::format(
      "#!/bin/sh\n# Configuration '{}' of the study '{}', with the values that were in effect when it was "
      "measured.\n"
      "# Further words (--host, --port, --api-key) may be given to this script.\nexec {} \"$@\"\n",
      configuration.name, result.spec.name, shell_line(words));
}

}  // namespace

Status promote(const StudyFolder& folder, StudyResult& result) {
  std::set<std::string> proposed;
  for (const Verdict& verdict : result.verdicts) {
    if (!verdict.configuration.empty()) proposed.insert(verdict.configuration);
  }
  if (result.spec.target.engine != TargetEngine::kCrible) return {};
  for (const ConfigurationResult& configuration : result.configurations) {
    if (!proposed.contains(configuration.name)) continue;
    const json effective = json::parse(configuration.effective_json, nullptr, false);
    if (!effective.is_object() || effective.empty()) continue;
    const std::string stem = "artifacts/" + configuration.name;
    CRIBLE_RETURN_IF_ERROR(write_file_atomic(folder.root / (stem + ".json"), effective.dump(2) + "\n"));
    const auto script = folder.root / (stem + ".sh");
    CRIBLE_RETURN_IF_ERROR(write_file_atomic(script, launch_script(result, configuration)));
    std::error_code ignored;
    std::filesystem::permissions(script, std::filesystem::perms(0755), ignored);
    result.artifacts.push_back({"launch_command", stem + ".sh", configuration.name});
    result.artifacts.push_back({"configuration", stem + ".json", configuration.name});
  }
  return {};
}

}  // namespace crible::study
