#include "study/record/knobs.h"

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace crible::study {
namespace {

std::string text_of(const nlohmann::json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

Result<std::string> canonical_knob(const std::string& name, const std::string& text) {
  EngineConfig config;
  CRIBLE_RETURN_IF_ERROR(engine_fields().set_text(config, name, text));
  return text_of(engine_fields().to_json(config).at(name));
}

EngineConfig to_engine_config(const Knobs& knobs) {
  EngineConfig config;
  for (const auto& [name, text] : knobs) {
    const Status status = engine_fields().set_text(config, name, text);
    CHECK(status.has_value(), "knob {}={}: {}", name, text, status ? "" : status.error().message);
  }
  return config;
}

std::string knobs_json(const Knobs& knobs) {
  const nlohmann::json all = engine_fields().to_json(to_engine_config(knobs));
  nlohmann::json stated = nlohmann::json::object();
  for (const auto& [name, text] : knobs) stated[name] = all.at(name);
  return stated.dump();
}

std::vector<std::string> differing_knobs(const Knobs& a, const Knobs& b) {
  const nlohmann::json left = engine_fields().to_json(to_engine_config(a));
  const nlohmann::json right = engine_fields().to_json(to_engine_config(b));
  std::vector<std::string> names;
  for (const auto& [name, value] : left.items()) {
    if (right.at(name) != value) names.push_back(name);
  }
  return names;
}

int features_on(const std::string& settings_json) {
  const nlohmann::json settings = nlohmann::json::parse(settings_json, nullptr, false);
  if (!settings.is_object()) return 0;
  int on = 0;
  for (const auto& [name, value] : settings.items()) {
    const bool optional_feature = name.starts_with("enable-") || name.starts_with("enable_");
    if (optional_feature && value.is_boolean() && value.get<bool>()) ++on;
  }
  return on;
}

std::vector<std::string_view> knob_names() {
  std::vector<std::string_view> names;
  for (const auto& field : engine_fields().fields()) names.push_back(field.name);
  return names;
}

}  // namespace crible::study
