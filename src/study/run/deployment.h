// Brings configurations into effect, one at a time: by a live change where the running server can make
// it, else by a new server; or by going to the URL where somebody else runs it. Proves that what is in
// effect is what was asked for, before anything is measured. One thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>

#include "study/record/spec.h"
#include "study/record/trial.h"
#include "study/run/attempt.h"
#include "study/run/effective_check.h"
#include "study/run/running_server.h"
#include "study/run/study_folder.h"

namespace crible::study {

struct Deployed {
  LaunchRecord launch;
  ServerState state;
  std::vector<std::string> unverified;  // knobs that the server does not report
};

struct DeploymentOptions {
  std::filesystem::path program;  // what `crible serve` is started from
  std::string api_key;
  std::chrono::seconds boot_deadline{120};
  int first_launch = 1;  // number of the first launch, so that ids stay unique over a resume
};

class Deployment {
 public:
  Deployment(const StudySpec& spec, const StudyFolder& folder, DeploymentOptions options,
             const std::atomic<bool>& stop)
      : spec_(spec),
        folder_(folder),
        options_(std::move(options)),
        stop_(stop),
        next_launch_(options_.first_launch) {}

  // On failure no server, or the server in its earlier configuration, is left.
  Attempt<Deployed> bring_up(const ConfigurationSpec& configuration, int block);
  // Fails, and stops the study, on a mismatch, a contradiction, a change since the configuration was
  // first seen, or another configuration with the same effective values.
  Attempt<bool> assert_effective(const ConfigurationSpec& configuration, const Deployed& deployed);

  RunningServer* server() { return server_ ? &*server_ : nullptr; }
  // Why the server that should be up is not.
  std::optional<StepFailure> death() { return server_ ? server_->death() : std::nullopt; }
  void stop_server();

 private:
  Attempt<bool> boot(const ConfigurationSpec& configuration, LaunchRecord& launch);
  Attempt<bool> attach(const ConfigurationSpec& configuration);
  bool can_change_live(const Knobs& knobs);

  const StudySpec& spec_;
  const StudyFolder& folder_;
  DeploymentOptions options_;
  const std::atomic<bool>& stop_;
  std::optional<RunningServer> server_;
  Knobs knobs_in_effect_;
  EffectiveRegister register_;
  int next_launch_;
};

}  // namespace crible::study
