#include "study/run/server_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "load/completion_frame.h"
#include "study/run/boot_diagnosis.h"
#include "study/run/prometheus_text.h"

namespace crible::study {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kCallTimeout{10'000};
// Rebuilding pools is bounded by memory speed; a server that needs longer hangs.
constexpr std::chrono::milliseconds kReconfigureTimeout{60'000};

std::string text_at(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return {};
  const json& value = object.at(key);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

int64_t integer_at(const json& object, const char* key, int64_t otherwise) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_number()) return otherwise;
  return object.at(key).get<int64_t>();
}

json object_at(const json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_object()) return json::object();
  return object.at(key);
}

Attempt<json> get_json(load::HttpCaller& server, const char* path) {
  const auto reply = server.get(path, kCallTimeout);
  if (!reply) return tl::unexpected(from_error(reply.error()));
  if (reply->code == 401 || reply->code == 403) {
    return step_failed(FailureCause::kAuth,
                       fmt::format("GET {} answered {}: {}; set the key's variable (target: api-key-env)",
                                   path, reply->code, load::error_message(reply->body)));
  }
  if (reply->code == 404) return json();
  if (reply->code != 200) {
    return step_failed(FailureCause::kUnknown, fmt::format("GET {} answered {}: {}", path, reply->code,
                                                           load::error_message(reply->body)));
  }
  json parsed = json::parse(reply->body, nullptr, false);
  if (!parsed.is_object())
    return step_failed(FailureCause::kUnknown, fmt::format("GET {} did not answer a JSON object", path));
  return parsed;
}

void read_admin(const json& admin, ServerState& state) {
  state.full_report = true;
  state.requested_json = object_at(admin, "requested").dump();
  state.resolved_json = object_at(admin, "resolved").dump();
  state.effective_json = object_at(admin, "effective").dump();
  if (admin.contains("adjustments") && admin["adjustments"].is_array()) {
    for (const json& a : admin["adjustments"]) {
      state.adjustments.push_back(
          {text_at(a, "name"), text_at(a, "from"), text_at(a, "to"), text_at(a, "reason")});
    }
  }
  const json model = object_at(admin, "model");
  state.model.architecture = text_at(model, "architecture");
  state.model.quantization = text_at(model, "quantization");
  state.model.parameters = integer_at(model, "parameters", 0);
  state.model.context_tokens = integer_at(model, "context_length", 0);
  const json plan = object_at(admin, "memory_plan");
  state.device_memory_bytes = integer_at(plan, "device_bytes", kUnset);
  int64_t used = 0;
  for (const char* term : {"weight_bytes", "activation_bytes", "runtime_bytes", "kv_bytes"}) used += integer_at(plan, term, 0);
  if (used > 0) state.device_used_bytes = used;
  const json machine = object_at(admin, "machine");
  state.device = text_at(machine, "device");
  if (state.device.empty()) state.device = text_at(object_at(admin, "effective"), "device");
  if (state.device.empty()) state.device = "cpu";  // a server that names no device has none but the host
  state.cpu_features = text_at(machine, "cpu_features");
}

// Labels of vLLM's cache_config_info are its settings, spelled with underscores.
void read_cache_config(const std::string& metrics, ServerState& state) {
  json effective = json::object();
  for (const MetricLine& line : parse_prometheus(metrics)) {
    if (line.name != "vllm:cache_config_info") continue;
    for (const auto& [label, text] : line.labels) {
      std::string name = label;
      std::replace(name.begin(), name.end(), '_', '-');
      if (text == "True" || text == "true") {
        effective[name] = true;
      } else if (text == "False" || text == "false") {
        effective[name] = false;
      } else {
        const json number = json::parse(text, nullptr, false);
        effective[name] = number.is_number() ? number : json(text);
      }
    }
  }
  state.effective_json = effective.dump();
}

}  // namespace

Attempt<ServerState> read_server_state(load::HttpCaller& server) {
  ServerState state;
  CRIBLE_ATTEMPT(const json models, get_json(server, "/v1/models"));
  if (!models.is_object() || !models.contains("data") || !models["data"].is_array() ||
      models["data"].empty()) {
    return step_failed(FailureCause::kUnknown,
                       "GET /v1/models names no model; is this an OpenAI-compatible server?");
  }
  state.served_model = text_at(models["data"][0], "id");
  state.model.context_tokens = integer_at(models["data"][0], "max_model_len", 0);
  CRIBLE_ATTEMPT(const json admin, get_json(server, "/admin/config"));
  if (admin.is_object()) {
    read_admin(admin, state);
  } else if (const auto metrics = server.get("/metrics", kCallTimeout); metrics && metrics->code == 200) {
    read_cache_config(metrics->body, state);
  }
  state.model.name = state.served_model;
  return state;
}

Attempt<double> reconfigure_server(load::HttpCaller& server, const std::string& settings_json) {
  const TimePoint start = now();
  const auto reply = server.call("POST", "/admin/reconfigure", settings_json, kReconfigureTimeout);
  const double elapsed_ms = to_ms(now() - start);
  if (!reply) {
    StepFailure failure = from_error(reply.error());
    if (failure.cause == FailureCause::kTimeout) failure.cause = FailureCause::kHang;
    return tl::unexpected(std::move(failure));
  }
  if (reply->code == 200) return elapsed_ms;
  const std::string message = load::error_message(reply->body);
  return step_failed(speaks_of_memory(message) ? FailureCause::kOutOfMemory : FailureCause::kBadFlag,
                     fmt::format("the server refused the configuration ({}): {}", reply->code, message),
                     {message});
}

bool is_healthy(load::HttpCaller& server) {
  const auto reply = server.get("/health", std::chrono::milliseconds(3'000));
  return reply && reply->code == 200;
}

}  // namespace crible::study
