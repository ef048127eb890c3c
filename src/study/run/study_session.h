// The state of one call of run_study or resume_study, and its steps in order.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "base/gpu_telemetry.h"
#include "load/client.h"
#include "load/prompt.h"
#include "study/record/plan.h"
#include "study/record/store.h"
#include "study/run/deployment.h"
#include "study/run/estimate.h"
#include "study/run/phases.h"
#include "study/run/study_run.h"

namespace crible::study {

class StudySession {
 public:
  struct Setup {
    StudySpec spec;
    std::string spec_source;
    StudyFolder folder;
    RunOptions options;
    std::string api_key;
    std::optional<Store> store;         // on resume
    std::optional<StoredStudy> stored;  // what it held
  };

  StudySession(Setup setup, Progress& progress, const std::atomic<bool>& stop);

  Result<RunSummary> run();

 private:
  // Notes what others do on the GPUs before a server of ours is there.
  Status check_gpus_idle();
  // Each configuration once: up, in effect, sane. Stops at the first failure that stops the study.
  Status survey();
  void tell_of_missing_telemetry(const ServerState& state);
  Attempt<bool> survey_one(const ConfigurationSpec& configuration);
  // What only a running server can tell: words of one token, speeds.
  Attempt<bool> learn_from_server(const ServerState& state);
  Status open_store();
  Status settle_budget();
  Status measure_blocks();
  Status measure_visit(const PlannedVisit& visit);
  Status measure_planned(const PlannedVisit& visit, const PlannedTrial& planned,
                         const ConfigurationSpec& configuration);
  Attempt<bool> warm_up_visit(const PlannedVisit& visit);
  // Up and in effect, as a recorded launch.
  Attempt<bool> prepare(const ConfigurationSpec& configuration, int block);
  Result<RunSummary> conclude();

  Status record_failure(const StepFailure& failure, StudyPhase phase, const std::string& configuration,
                        const std::string& trial_id);
  Status record_launch(const LaunchRecord& launch);
  Status record_event(const std::string& kind, const std::string& detail);

  // None where the machine has no GPU.
  const GpuTelemetry* telemetry() const { return telemetry_ ? &*telemetry_ : nullptr; }
  bool halted() const { return stopped_.has_value() || stop_; }
  bool excluded(const std::string& configuration) const;
  bool has_work(const std::string& configuration) const;
  load::Client& client();
  double left_s() const;
  const ConfigurationSpec& configuration_named(const std::string& name) const;
  const ScenarioSpec& scaled(const std::string& scenario) const;

  Setup setup_;
  Progress& progress_;
  const std::atomic<bool>& stop_;
  const StudySpec& spec_;
  Plan plan_;
  Deployment deployment_;
  Phases phases_;
  Result<GpuTelemetry> telemetry_;
  bool told_of_telemetry_ = false;
  std::optional<Store> store_;
  std::set<std::string> done_;  // trial ids

  // What happens before the store exists: it is made once the first server has named its model.
  std::vector<LaunchRecord> early_launches_;
  std::vector<FailureRecord> early_failures_;
  std::vector<StudyEvent> early_events_;

  std::optional<load::WordPool> words_;
  Speeds speeds_;
  double scale_ = 1;
  std::vector<ScenarioSpec> scenarios_;  // scaled
  std::optional<RemainingTime> remaining_;
  std::unique_ptr<load::Client> client_;
  std::string client_url_;
  std::optional<Deployed> deployed_;
  std::map<std::string, int> strikes_;  // failures of a configuration since it last did something right
  std::optional<StepFailure> stopped_;
  StudyPhase phase_ = StudyPhase::kPreflight;  // under way, for failure records
  int failures_ = 0;
  int measured_here_ = 0;
};

}  // namespace crible::study
