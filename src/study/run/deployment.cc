#include "study/run/deployment.h"

#include "base/clock.h"
#include "study/record/knobs.h"
#include "study/run/knob_flags.h"

namespace crible::study {

bool Deployment::can_change_live(const Knobs& knobs) {
  return spec_.target.engine == TargetEngine::kCrible && server_ && !server_->death() &&
         restart_only_differences(knobs_in_effect_, knobs).empty();
}

Attempt<bool> Deployment::boot(const ConfigurationSpec& configuration, LaunchRecord& launch) {
  stop_server();
  BootPlan plan;
  plan.ready_file = folder_.logs() / (launch.id + ".ready");
  plan.log_file = folder_.root / launch.log_path;
  plan.command = serve_command(options_.program, spec_.target, configuration.knobs, plan.ready_file);
  plan.api_key = options_.api_key;
  plan.deadline = options_.boot_deadline;
  launch.command_line = plan.command;
  CRIBLE_ATTEMPT(server_, RunningServer::boot(plan, stop_));
  launch.boot_ms = server_->boot_ms();
  return true;
}

Attempt<bool> Deployment::attach(const ConfigurationSpec& configuration) {
  CRIBLE_ATTEMPT(server_, RunningServer::attach(configuration.url, options_.api_key));
  return true;
}

Attempt<Deployed> Deployment::bring_up(const ConfigurationSpec& configuration, int block) {
  Deployed deployed;
  LaunchRecord& launch = deployed.launch;
  launch.id = fmt::format("L{:04}", next_launch_++);
  launch.configuration = configuration.name;
  launch.block = block;
  launch.start_wall_time = wall_time_iso8601();
  if (spec_.target.engine == TargetEngine::kUrl) {
    CRIBLE_ATTEMPT([[maybe_unused]] const bool attached, attach(configuration));
  } else if (can_change_live(configuration.knobs)) {
    CRIBLE_ATTEMPT(launch.reconfigure_ms,
                   reconfigure_server(server_->caller(), live_settings_json(configuration.knobs)));
    launch.log_path = "logs/" + server_->log_file().filename().string();
    launch.command_line = server_->command();
  } else {
    launch.log_path = "logs/" + launch.id + ".log";
    CRIBLE_ATTEMPT([[maybe_unused]] const bool booted, boot(configuration, launch));
  }
  knobs_in_effect_ = configuration.knobs;
  CRIBLE_ATTEMPT(deployed.state, read_server_state(server_->caller()));
  launch.requested_json = knobs_json(configuration.knobs);
  launch.resolved_json = deployed.state.resolved_json;
  launch.effective_json = deployed.state.effective_json;
  launch.adjustments = deployed.state.adjustments;
  deployed.unverified = unverified_knobs(configuration.knobs, deployed.state);
  return deployed;
}

Attempt<bool> Deployment::assert_effective(const ConfigurationSpec& configuration, const Deployed& deployed) {
  const auto stopped = [&](const std::string& message) {
    return study_stopped(
        FailureCause::kEffectiveMismatch, message,
        {"requested: " + deployed.launch.requested_json, "effective: " + deployed.state.effective_json});
  };
  if (const auto found = find_mismatches(configuration.knobs, deployed.state); !found.empty()) {
    return stopped(
        fmt::format("configuration '{}' is not in effect: {}", configuration.name, describe(found)));
  }
  if (const auto found = find_contradictions(deployed.state); !found.empty()) {
    return stopped(fmt::format("the server resolved '{}' one way and runs another: {}", configuration.name,
                               describe(found)));
  }
  if (const auto found = register_.drift(configuration.name, deployed.state.effective_json); !found.empty()) {
    return stopped(fmt::format("configuration '{}' is not what it was when first seen: {}",
                               configuration.name, describe(found)));
  }
  if (const auto other = register_.conflict(configuration.name, deployed.state.effective_json)) {
    return stopped(fmt::format(
        "configurations '{}' and '{}' have equal effective values: they are one configuration under "
        "two names, and comparing them would compare a server with itself",
        *other, configuration.name));
  }
  return true;
}

void Deployment::stop_server() {
  if (server_) server_->stop();
  server_.reset();
  knobs_in_effect_.clear();
}

}  // namespace crible::study
