// Is the server in the configuration that was asked for, and in one of its own? The reference grid
// failed here: edited flags did not take effect and several rows measured one and the same server.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "study/record/spec.h"
#include "study/run/server_state.h"

namespace crible::study {

struct Mismatch {
  std::string knob;
  std::string requested;
  std::string effective;  // empty: the server does not report the knob
};

// Requested knobs whose effective value is another, unless the server lists an adjustment that says
// exactly this change and why. Knobs that a server without a full report leaves out are not
// mismatches (see unverified_knobs).
std::vector<Mismatch> find_mismatches(const Knobs& requested, const ServerState& state);
// Settings whose resolved and effective values differ: the server contradicts itself.
std::vector<Mismatch> find_contradictions(const ServerState& state);
std::vector<std::string> unverified_knobs(const Knobs& requested, const ServerState& state);

// Remembers each configuration's effective values, and names an earlier one that has the same.
class EffectiveRegister {
 public:
  // The other configuration with equal effective values, if there is one. A configuration is
  // registered once and may be seen again.
  std::optional<std::string> conflict(const std::string& configuration, const std::string& effective_json);
  // A configuration must look the same at every launch: the settings that changed since it was
  // first seen.
  std::vector<Mismatch> drift(const std::string& configuration, const std::string& effective_json) const;

 private:
  std::map<std::string, std::string> seen_;
};

std::string describe(const std::vector<Mismatch>& mismatches);

}  // namespace crible::study
