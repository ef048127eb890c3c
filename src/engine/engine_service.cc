#include "engine/engine_service.h"

#include "base/log.h"
#include "engine/engine_thread.h"
#include "model/checkpoint.h"
#include "model/model.h"

namespace crible {

Result<std::unique_ptr<EngineService>> EngineService::start(const std::filesystem::path& model_path,
                                                            const EngineConfig& requested) {
  const int64_t threads = requested.threads > 0 ? requested.threads : this_machine().cores;
  CRIBLE_TRY(Stream stream, Stream::create_cpu(static_cast<int>(threads)));
  const LoadFormat format = requested.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  CRIBLE_TRY(std::unique_ptr<Model> model, load_model(model_path, stream, format));
  CRIBLE_TRY(std::unique_ptr<Engine> engine, Engine::create(std::move(model), std::move(stream), requested));
  log_info("memory plan: {}", to_string(engine->description().plan));
  return start_engine_thread(std::move(engine));
}

}  // namespace crible
