// The engine behind its service: a thread that takes messages at step boundaries, steps while there
// is work and sleeps when there is none. All calls may come from any thread.
#pragma once

#include <memory>

#include "engine/engine.h"
#include "engine/engine_service.h"

namespace crible {

// Takes the engine over; the service is ready at once.
std::unique_ptr<EngineService> start_engine_thread(std::unique_ptr<Engine> engine);

}  // namespace crible
