// The study's view of the engine's settings: canonical text per knob, checked against config's
// field table. Another server's flags are made from the same names (study/run).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/engine_config.h"
#include "study/record/trial.h"

namespace crible::study {

// The value as the table would print it ("0.850" -> "0.85", "on" -> "true"), or why it is wrong.
Result<std::string> canonical_knob(const std::string& name, const std::string& text);

// Defaults, overridden by the knobs. They must be canonical: a CHECK otherwise.
EngineConfig to_engine_config(const Knobs& knobs);

// JSON object, typed as the table says: {"max-num-seqs":32}. Sorted by name.
std::string knobs_json(const Knobs& knobs);

// Settings in which two configurations differ, defaults included; empty when they are the same.
std::vector<std::string> differing_knobs(const Knobs& a, const Knobs& b);

// Optional features (settings named enable-...) that are on, in a settings object as a server
// reports it. Settings that the object lacks, or a text that is no JSON object, count as off.
int features_on(const std::string& settings_json);

std::vector<std::string_view> knob_names();

}  // namespace crible::study
