#include "engine/engine_service.h"

#include "base/log.h"
#include "engine/engine_thread.h"
#include "engine/step_runner.h"

namespace crible {

Result<std::unique_ptr<EngineService>> EngineService::start(const std::filesystem::path& model,
                                                            const EngineConfig& requested) {
  CRIBLE_TRY(std::unique_ptr<StepRunner> runner, load_runner(model, requested));
  CRIBLE_TRY(std::unique_ptr<Engine> engine, Engine::create(std::move(runner), requested));
  log_info("memory plan: {}", to_string(engine->description().plan));
  return start_engine_thread(std::move(engine));
}

}  // namespace crible
