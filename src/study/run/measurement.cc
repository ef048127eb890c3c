#include "study/run/measurement.h"

#include "study/run/monitor.h"
#include "study/run/scenario/scenario.h"
#include "study/run/server_gpus.h"
#include "study/run/trial_recorder.h"

namespace crible::study {

TrialRecord measure_trial(const TrialPlan& plan, RunningServer& server, const ServerState& state,
                          load::Client& client, const load::WordPool& words, Progress& progress,
                          const std::atomic<bool>& stop) {
  TrialRecord trial;
  trial.id = plan.planned.id;
  trial.scenario = plan.planned.scenario;
  trial.configuration = plan.configuration;
  trial.block = plan.block;
  trial.order_in_block = plan.order_in_block;
  trial.launch_id = plan.launch_id;
  trial.start_wall_time = wall_time_iso8601();

  const Scenario& scenario = scenario_named(plan.planned.scenario);
  const int requests_planned = scenario.work(plan.scenario).requests;
  Monitor monitor(server.endpoint(), server.pid(), state, plan.telemetry);
  TrialRecorder recorder(
      [&](int requests, std::optional<double> ttft_ms) { progress.request_ended(requests, ttft_ms); });
  monitor.start(recorder.start());
  ScenarioContext context{.client = client,
                          .words = words,
                          .model = state.served_model,
                          .spec = plan.scenario,
                          .seed = plan.planned.seed,
                          .recorder = recorder,
                          .stop = stop};
  scenario.run(context);
  // A conversation that broke off made fewer requests than planned: that is the server's doing.
  const bool server_failed = recorder.failures() > 0;
  recorder.finish(server_failed ? recorder.requests() : requests_planned, trial);
  monitor.finish(trial);
  judge_gpus(trial);
  return trial;
}

}  // namespace crible::study
