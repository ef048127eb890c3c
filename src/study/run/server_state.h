// What a running server reports of itself, read over HTTP: its configuration (requested, resolved,
// effective), its model, its memory. Everything here is the server's own word; nothing is assumed.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "load/http_call.h"
#include "study/record/trial.h"
#include "study/run/attempt.h"

namespace crible::study {

struct ServerState {
  std::string requested_json = "{}";
  std::string resolved_json = "{}";
  std::string effective_json = "{}";
  std::vector<AdjustmentRecord> adjustments;
  // False: the server has no /admin/config; effective values come from its metrics and are partial.
  bool full_report = false;
  std::string served_model;
  ModelRecord model;  // what the server says of it; other fields empty
  std::string device;
  std::string cpu_features;
  int64_t device_memory_bytes = kUnset;  // in all
  int64_t device_used_bytes = kUnset;    // weights, activations and KV blocks, as planned
};

// /v1/models and /admin/config; where the latter does not exist, vllm:cache_config_info.
Attempt<ServerState> read_server_state(load::HttpCaller& server);

// Changes the settings live and waits until they are in effect; milliseconds from request to answer.
Attempt<double> reconfigure_server(load::HttpCaller& server, const std::string& settings_json);

// A healthy answer right now.
bool is_healthy(load::HttpCaller& server);

}  // namespace crible::study
