#include "study/run/effective_check.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "study/record/knobs.h"

namespace crible::study {
namespace {

using nlohmann::json;

json parse_object(const std::string& text) {
  json parsed = json::parse(text, nullptr, false);
  return parsed.is_object() ? parsed : json::object();
}

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Numbers are compared as numbers: 1 and 1.0 are the same setting.
bool same_value(const json& a, const json& b) {
  return a == b || text_of(a) == text_of(b);
}

bool explained(const std::string& knob, const std::string& from, const std::string& to,
               const ServerState& state) {
  const auto canonical = [&](const std::string& text) { return canonical_knob(knob, text).value_or(text); };
  return std::ranges::any_of(state.adjustments, [&](const AdjustmentRecord& a) {
    return a.knob == knob && canonical(a.requested) == from && canonical(a.resolved) == to &&
           !a.reason.empty();
  });
}

std::vector<Mismatch> differences(const std::string& expected_json, const std::string& found_json) {
  const json expected = parse_object(expected_json);
  const json found = parse_object(found_json);
  std::vector<Mismatch> result;
  for (const auto& [name, value] : expected.items()) {
    if (!found.contains(name)) {
      result.push_back({name, text_of(value), {}});
    } else if (!same_value(value, found.at(name))) {
      result.push_back({name, text_of(value), text_of(found.at(name))});
    }
  }
  return result;
}

}  // namespace

std::vector<Mismatch> find_mismatches(const Knobs& requested, const ServerState& state) {
  const json effective = parse_object(state.effective_json);
  const json typed = parse_object(knobs_json(requested));
  std::vector<Mismatch> result;
  for (const auto& [name, text] : requested) {
    if (!effective.contains(name)) {
      if (state.full_report) result.push_back({name, text, {}});
      continue;
    }
    const std::string found = text_of(effective.at(name));
    if (!same_value(typed.at(name), effective.at(name)) && !explained(name, text, found, state)) {
      result.push_back({name, text, found});
    }
  }
  return result;
}

std::vector<Mismatch> find_contradictions(const ServerState& state) {
  if (!state.full_report) return {};
  return differences(state.resolved_json, state.effective_json);
}

std::vector<std::string> unverified_knobs(const Knobs& requested, const ServerState& state) {
  const json effective = parse_object(state.effective_json);
  std::vector<std::string> names;
  for (const auto& [name, text] : requested) {
    if (!effective.contains(name)) names.push_back(name);
  }
  return names;
}

std::optional<std::string> EffectiveRegister::conflict(const std::string& configuration,
                                                       const std::string& effective_json) {
  const json effective = parse_object(effective_json);
  if (effective.empty()) return std::nullopt;
  for (const auto& [name, text] : seen_) {
    if (name != configuration && parse_object(text) == effective) return name;
  }
  seen_.emplace(configuration, effective_json);
  return std::nullopt;
}

std::vector<Mismatch> EffectiveRegister::drift(const std::string& configuration,
                                               const std::string& effective_json) const {
  const auto first = seen_.find(configuration);
  if (first == seen_.end()) return {};
  return differences(first->second, effective_json);
}

std::string describe(const std::vector<Mismatch>& mismatches) {
  std::string text;
  for (const Mismatch& m : mismatches) {
    if (!text.empty()) text += "; ";
    text += m.effective.empty()
                ? fmt::format("{}: {} asked for, not reported", m.knob, m.requested)
                : fmt::format("{}: {} asked for, {} in effect", m.knob, m.requested, m.effective);
  }
  return text;
}

}  // namespace crible::study
