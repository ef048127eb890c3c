// What every request handler works with. Engine, text model and settings are safe on any thread;
// metrics and inbox belong to the I/O thread.
#pragma once

#include <atomic>
#include <string>

#include "config/server_config.h"
#include "engine/engine_service.h"
#include "server/gpu_watch.h"
#include "server/metrics.h"
#include "server/prepare.h"
#include "server/token_inbox.h"
#include "text/text_model.h"

namespace crible {

struct ServerContext {
  ServerContext(EngineService& engine, const TextModel& text, ServerConfig config, std::function<void()> wake)
      : engine(engine), text(text), config(std::move(config)), inbox(std::move(wake)) {}

  EngineService& engine;
  const TextModel& text;
  const ServerConfig config;
  std::string model_name;
  std::string device_name;  // of the GPU; empty on a CPU
  std::string system_fingerprint;
  int64_t started_unix = 0;
  std::atomic<bool> draining = false;  // no new work is taken
  GpuWatch gpus;  // read on the I/O thread
  ServerMetrics metrics;
  TokenInbox inbox;  // after metrics: jobs that it still holds report to them when they go

  ServedModel served_model() const {
    return {.text = text, .name = model_name, .max_model_len = engine.describe().resolved.config.max_model_len};
  }
};

}  // namespace crible
