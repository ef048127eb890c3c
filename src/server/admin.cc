#include "server/admin.h"

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "wire/json_text.h"

namespace crible {
namespace {

using nlohmann::json;

json plan_json(const MemoryPlan& plan) {
  return {{"device_bytes", plan.device_bytes},
          {"budget_bytes", plan.budget_bytes},
          {"weight_bytes", plan.weight_bytes},
          {"activation_bytes", plan.activation_bytes},
          {"runtime_bytes", plan.runtime_bytes},
          {"kv_block_bytes", plan.kv_block_bytes},
          {"num_blocks", plan.num_blocks},
          {"kv_bytes", plan.kv_bytes},
          {"planned_bytes", plan.planned_bytes()}};
}

json model_json(const EngineModelInfo& model, const std::string& name) {
  return {{"name", name},
          {"architecture", model.architecture},
          {"quantization", model.quantization},
          {"path", model.path},
          {"parameters", model.parameters},
          {"weight_bytes", model.weight_bytes},
          {"context_length", model.context_length},
          {"vocabulary", model.vocabulary},
          {"layers", model.layers}};
}

json server_json(const ServerConfig& config) {
  json settings = server_fields().to_json(config);
  settings["api-key"] = config.api_key.empty() ? "" : "(set)";
  return settings;
}

std::string config_body(const EngineDescription& description, const ServerContext& context) {
  const MachineLimits limits = this_machine();
  json machine = {{"memory_bytes", limits.memory_bytes}, {"cores", limits.cores}};
  if (!context.device_name.empty()) machine["device"] = context.device_name;
  const json body = {{"requested", engine_fields().to_json(description.requested)},
                     {"resolved", engine_fields().to_json(description.resolved.config)},
                     {"effective", engine_fields().to_json(description.effective)},
                     {"adjustments", to_json(description.resolved.adjustments)},
                     {"memory_plan", plan_json(description.plan)},
                     {"model", model_json(description.model, context.model_name)},
                     {"machine", machine},
                     {"server", server_json(context.config)}};
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

HttpReply get_admin_config(ServerContext& context, const HttpRequest&) {
  return {.body = config_body(context.engine.describe(), context)};
}

HttpReply post_admin_reconfigure(ServerContext& context, const HttpRequest& request) {
  const auto knobs = parse_json(request.body);
  if (!knobs) return error_reply(knobs.error());
  EngineConfig requested = context.engine.describe().requested;
  Status applied = engine_fields().apply_json(requested, json(*knobs));
  if (!applied) return error_reply(to_api_error(applied.error()));
  const auto description = context.engine.reconfigure(requested);
  if (!description) {
    ApiError error = to_api_error(description.error());
    // A plan that does not fit in memory is the fault of the values asked for.
    if (description.error().code == ErrorCode::kResourceExhausted) {
      error.status = 400;
      error.type = "invalid_request_error";
    }
    return error_reply(error);
  }
  log_info("reconfigured: {}", json(*knobs).dump());
  return {.body = config_body(*description, context)};
}

HttpReply post_admin_save_prefix_cache(ServerContext& context, const HttpRequest&) {
  const auto saved = context.engine.save_prefix_cache();
  if (!saved) return error_reply(to_api_error(saved.error()));
  return {.body = json{{"blocks", saved->blocks}, {"bytes", saved->bytes}, {"seconds", saved->seconds}}.dump()};
}

HttpReply post_admin_reset_prefix_cache(ServerContext& context, const HttpRequest&) {
  context.engine.reset_prefix_cache();
  return {.body = R"({"reset":true})"};
}

}  // namespace crible
