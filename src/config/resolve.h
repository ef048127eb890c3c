// requested → resolved: a pure function of the request, the machine and the model's limits. Every
// value that changes on the way is listed as an Adjustment with its reason; both sides are recorded.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "config/engine_config.h"

namespace crible {

// Of the device's memory, where nobody asks for another share.
inline constexpr double kDefaultUtilization = 0.90;

struct MachineLimits {
  int64_t memory_bytes = 0;  // RAM of the host, or the GPU's memory
  int64_t cores = 1;
  bool gpu = false;
};
MachineLimits this_machine();

struct ModelLimits {
  int64_t context_length = 0;  // tokens the model was made for
};

struct Adjustment {
  std::string name;  // setting
  std::string from;
  std::string to;
  std::string reason;
};
nlohmann::json to_json(const std::vector<Adjustment>& adjustments);

struct ResolvedConfig {
  EngineConfig config;
  std::vector<Adjustment> adjustments;

  // Sets the value and says why; nothing if it is that already. A setting that was adjusted before keeps
  // what it came from.
  template <typename T>
  void adjust(T EngineConfig::*member, T value, std::string_view name, std::string reason) {
    T& current = config.*member;
    if (current == value) return;
    std::string from = fmt::format("{}", current);
    const auto earlier = std::find_if(adjustments.begin(), adjustments.end(),
                                      [name](const Adjustment& a) { return a.name == name; });
    if (earlier != adjustments.end()) {
      from = std::move(earlier->from);
      adjustments.erase(earlier);
    }
    adjustments.push_back({std::string(name), std::move(from), fmt::format("{}", value), std::move(reason)});
    current = value;
  }
};

// Fails where the request contradicts itself or the model (a context longer than the model's, a token
// budget smaller than max-num-seqs): silently "fixing" these would measure something else.
Result<ResolvedConfig> resolve(const EngineConfig& requested, const MachineLimits& machine,
                               const ModelLimits& model);

}  // namespace crible
