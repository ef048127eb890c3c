// One trial: a scenario run once against the server that is up, watched and judged. A trial in which the
// server failed requests, or died, is still a trial: its errors are its result.
#pragma once

#include <atomic>
#include <string>

#include "base/gpu_telemetry.h"
#include "load/client.h"
#include "load/prompt.h"
#include "study/record/plan.h"
#include "study/record/spec.h"
#include "study/run/progress.h"
#include "study/run/running_server.h"
#include "study/run/server_state.h"

namespace crible::study {

struct TrialPlan {
  const PlannedTrial& planned;
  const ScenarioSpec& scenario;  // scaled
  std::string configuration;
  std::string launch_id;
  int block = 0;
  int order_in_block = 0;
  const GpuTelemetry* telemetry = nullptr;  // of this machine's GPUs, if it has any
};

TrialRecord measure_trial(const TrialPlan& plan, RunningServer& server, const ServerState& state,
                          load::Client& client, const load::WordPool& words, Progress& progress,
                          const std::atomic<bool>& stop);

}  // namespace crible::study
