// requested → resolved: a pure function of the request, the machine and the model's limits. Every
// value that changes on the way is listed as an Adjustment with its reason; both sides are recorded.
#pragma once

#include <string>
#include <vector>

#include "config/engine_config.h"

namespace crible {

struct MachineLimits {
  int64_t memory_bytes = 0;  // RAM of the host, or the device's memory
  int64_t cores = 1;
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
};

// Fails where the request contradicts itself or the model (a context longer than the model's, a token
// budget smaller than max-num-seqs): silently "fixing" these would measure something else.
Result<ResolvedConfig> resolve(const EngineConfig& requested, const MachineLimits& machine,
                               const ModelLimits& model);

}  // namespace crible
