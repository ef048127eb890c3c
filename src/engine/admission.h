// The one gate every request passes before it becomes a sequence: what is accepted here can always be
// run to its end. Pure; used by the engine and by the fake engine alike.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "config/engine_config.h"
#include "engine/request.h"

namespace crible {

struct AdmissionLimits {
  int64_t vocabulary = 0;
  int64_t max_sequence_tokens = 0;  // prompt and output together: max-model-len, or fewer if the
                                    // KV blocks all together hold fewer
};

// kInvalidArgument if the request can never run. Otherwise cuts max_tokens to what the limit leaves.
Status admit(EngineRequest& request, const AdmissionLimits& limits);

// Refuses a live change of a setting that only a restart can change. Both sides are as requested.
Status check_live_change(const EngineConfig& current, const EngineConfig& requested);

}  // namespace crible
