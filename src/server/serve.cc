#include "server/serve.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "engine/engine_service.h"
#include "server/http_server.h"
#include "text/text_model.h"

namespace crible {
namespace {

void print_description(const EngineDescription& description) {
  const EngineModelInfo& model = description.model;
  fmt::print("model: {}\n  {}, {}, {:.1f} M parameters, context {} tokens\n", model.path, model.architecture,
             model.quantization, static_cast<double>(model.parameters) / 1e6, model.context_length);
  fmt::print("configuration in effect:\n");
  for (const auto& f : engine_fields().fields()) {
    fmt::print("  {:<24} {}{}{}\n", f.name,
               field::to_json(FieldTable<EngineConfig>::get(description.effective, f)).dump(),
               f.unit.empty() ? "" : " ", f.unit);
  }
  for (const Adjustment& a : description.resolved.adjustments) {
    fmt::print("  adjusted: {} from {} to {}: {}\n", a.name, a.from, a.to, a.reason);
  }
  const MemoryPlan& plan = description.plan;
  fmt::print("memory plan: budget {} of {}\n  weights {}, activations {}, runtime {}, KV cache {} ({} blocks of {}), "
             "planned {}\n",
             format_bytes(plan.budget_bytes), format_bytes(plan.device_bytes), format_bytes(plan.weight_bytes),
             format_bytes(plan.activation_bytes), format_bytes(plan.runtime_bytes), format_bytes(plan.kv_bytes), plan.num_blocks,
             format_bytes(plan.kv_block_bytes), format_bytes(plan.planned_bytes()));
}

}  // namespace

Status serve(const ServeOptions& options) {
  const TimePoint start = now();
  // The server works with both until it is gone, on every way out.
  TextModel text;
  std::unique_ptr<EngineService> engine;
  CRIBLE_TRY(const auto server, HttpServer::bind(options.server, http_limits(options.server)));
  CRIBLE_TRY(text, load_text_model(options.model));
  CRIBLE_TRY(engine, EngineService::start(options.model, options.engine));
  print_description(engine->describe());
  const EngineConfig effective = engine->describe().effective;
  GpuWatch gpus;
  if (effective.device == "cuda") gpus = GpuWatch::open(effective.tensor_parallel_size);
  CRIBLE_RETURN_IF_ERROR(server->start(*engine, text, std::move(gpus)));
  server->drain_on_signals();
  if (!options.server.ready_file.empty()) {
    CRIBLE_RETURN_IF_ERROR(write_file_atomic(options.server.ready_file, fmt::format("{}\n", server->port())));
  }
  const bool ipv6 = options.server.host.find(':') != std::string::npos;
  fmt::print("ready on http://{}{}{}:{} after {:.2f} s\n", ipv6 ? "[" : "", options.server.host, ipv6 ? "]" : "",
             server->port(), to_seconds(now() - start));
  std::fflush(stdout);
  server->wait();
  return {};
}

}  // namespace crible
