#include "study/run/study_session.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/clock.h"
#include "study/run/gate.h"
#include "study/run/machine_facts.h"
#include "study/run/measurement.h"
#include "study/run/scenario/scenario.h"
#include "study/run/server_gpus.h"
#include "study/run/warm_up.h"

namespace crible::study {
namespace {

using nlohmann::json;

// A configuration that fails so often without a trial in between is given up.
constexpr int kStrikesAllowed = 3;

int first_launch_number(const std::optional<StoredStudy>& stored) {
  return stored ? static_cast<int>(stored->launches.size()) + 1 : 1;
}

}  // namespace

StudySession::StudySession(Setup setup, Progress& progress, const std::atomic<bool>& stop)
    : setup_(std::move(setup)),
      progress_(progress),
      stop_(stop),
      spec_(setup_.spec),
      plan_(make_plan(setup_.spec)),
      deployment_(setup_.spec, setup_.folder,
                  {.program = setup_.options.program,
                   .api_key = setup_.api_key,
                   .boot_deadline = setup_.options.boot_deadline,
                   .first_launch = first_launch_number(setup_.stored)},
                  stop),
      phases_(stop, progress, [this] { return deployment_.death(); }),
      telemetry_(GpuTelemetry::open(setup_.options.nvml_library)),
      store_(std::move(setup_.store)) {
  if (setup_.stored) {
    for (const TrialRecord& trial : setup_.stored->trials) done_.insert(trial.id);
  }
}

Result<RunSummary> StudySession::run() {
  CRIBLE_RETURN_IF_ERROR(record_event(setup_.stored ? "resumed" : "started", setup_.options.program_version));
  CRIBLE_RETURN_IF_ERROR(check_gpus_idle());
  CRIBLE_RETURN_IF_ERROR(survey());
  CRIBLE_RETURN_IF_ERROR(open_store());
  if (!halted()) CRIBLE_RETURN_IF_ERROR(settle_budget());
  if (!halted()) CRIBLE_RETURN_IF_ERROR(measure_blocks());
  return conclude();
}

Status StudySession::check_gpus_idle() {
  // A server at a URL is on its GPU already.
  if (spec_.target.engine == TargetEngine::kUrl || !telemetry_) return {};
  const bool on_cpu = std::ranges::all_of(spec_.configurations, [](const ConfigurationSpec& configuration) {
    const auto device = configuration.knobs.find("device");
    return device != configuration.knobs.end() && device->second == "cpu";
  });
  if (on_cpu) return {};
  for (const std::string& finding : busy_gpus(*telemetry_)) {
    progress_.say(finding + "; what is measured now may be slower than it could be");
    CRIBLE_RETURN_IF_ERROR(record_event("gpu_busy", finding));
  }
  return {};
}

void StudySession::tell_of_missing_telemetry(const ServerState& state) {
  if (telemetry_ || told_of_telemetry_ || device_setting(state) != "cuda") return;
  told_of_telemetry_ = true;
  progress_.say(telemetry_.error().message + "; power, clocks and throttling will not be in the report");
}

Status StudySession::survey() {
  for (const ConfigurationSpec& configuration : spec_.configurations) {
    if (!has_work(configuration.name)) continue;
    const auto surveyed = survey_one(configuration);
    if (surveyed) continue;
    if (surveyed.error().interrupted) return {};
    CRIBLE_RETURN_IF_ERROR(record_failure(surveyed.error(), phase_, configuration.name, {}));
    strikes_[configuration.name] = kStrikesAllowed;  // what cannot answer a question is not measured
    if (surveyed.error().stops_study) {
      stopped_ = surveyed.error();
      return {};
    }
  }
  return {};
}

Attempt<bool> StudySession::survey_one(const ConfigurationSpec& configuration) {
  CRIBLE_ATTEMPT([[maybe_unused]] const bool prepared, prepare(configuration, 0));
  phase_ = StudyPhase::kGate;
  CRIBLE_ATTEMPT(const std::string answer,
                 phases_.run(StudyPhase::kGate, "asking " + configuration.name,
                             [&] { return smoke_gate(client(), deployed_->state.served_model, stop_); }));
  if (!words_) {
    phase_ = StudyPhase::kWarmUp;
    CRIBLE_ATTEMPT([[maybe_unused]] const bool learnt,
                   phases_.run(StudyPhase::kWarmUp, "measuring the server's speed",
                               [&] { return learn_from_server(deployed_->state); }));
  }
  tell_of_missing_telemetry(deployed_->state);
  const LaunchRecord& launch = deployed_->launch;
  progress_.say(fmt::format("{}: in effect and answering ({})", configuration.name,
                            launch.boot_ms ? fmt::format("started in {:.0f} ms", *launch.boot_ms)
                            : launch.reconfigure_ms
                                ? fmt::format("changed live in {:.0f} ms", *launch.reconfigure_ms)
                                : "running already"));
  return true;
}

Attempt<bool> StudySession::prepare(const ConfigurationSpec& configuration, int block) {
  phase_ = StudyPhase::kBoot;
  CRIBLE_ATTEMPT(deployed_, phases_.run(StudyPhase::kBoot, "bringing up " + configuration.name,
                                        [&] { return deployment_.bring_up(configuration, block); }));
  if (const Status stored = record_launch(deployed_->launch); !stored) {
    return study_stopped(FailureCause::kUnknown, stored.error().message);
  }
  if (!deployed_->unverified.empty() && block == 0) {
    progress_.say(fmt::format("{}: the server does not report {}; taken on trust", configuration.name,
                              fmt::join(deployed_->unverified, ", ")));
  }
  phase_ = StudyPhase::kAssertEffective;
  return phases_.run(StudyPhase::kAssertEffective, "checking what is in effect: " + configuration.name,
                     [&] { return deployment_.assert_effective(configuration, *deployed_); });
}

Attempt<bool> StudySession::learn_from_server(const ServerState& state) {
  auto words = load::learn_word_pool(deployment_.server()->caller(), state.served_model);
  if (!words) return tl::unexpected(from_error(words.error()));
  CRIBLE_ATTEMPT(const WarmUp measured, warm_up(client(), *words, state.served_model, spec_.seed, {}, stop_));
  speeds_ = {measured.prefill_tokens_per_s, measured.decode_tokens_per_s};
  words_ = std::move(*words);
  return true;
}

Status StudySession::open_store() {
  if (!store_) {
    const ServerState* state = deployed_ ? &deployed_->state : nullptr;
    MachineRecord machine = read_machine(setup_.options.program_version);
    if (state != nullptr) add_device(machine, *state);
    progress_.step("reading the model file");
    CRIBLE_TRY(store_, Store::create(setup_.folder.store(), spec_.source_text, setup_.spec_source, machine,
                                     read_model(spec_.target.model, state)));
  }
  for (const StudyEvent& event : early_events_) CRIBLE_RETURN_IF_ERROR(store_->append_event(event));
  for (const LaunchRecord& launch : early_launches_) CRIBLE_RETURN_IF_ERROR(store_->append_launch(launch));
  for (const FailureRecord& failure : early_failures_)
    CRIBLE_RETURN_IF_ERROR(store_->append_failure(failure));
  early_events_.clear();
  early_launches_.clear();
  early_failures_.clear();
  return {};
}

Status StudySession::settle_budget() {
  // A resumed study keeps the scale that its first trials were made with.
  std::optional<double> earlier;
  if (setup_.stored) {
    for (const StudyEvent& event : setup_.stored->events) {
      if (event.kind == "budget") earlier = json::parse(event.detail).at("scale").get<double>();
    }
  }
  const double whole_s = estimate_study_s(spec_, plan_, speeds_);
  if (earlier) {
    scale_ = *earlier;
  } else if (spec_.time_budget_s) {
    scale_ = scale_for_budget(spec_, plan_, speeds_, *spec_.time_budget_s);
  }
  scenarios_ = scaled_scenarios(spec_, scale_);
  remaining_.emplace(scenarios_, speeds_);
  progress_.say(fmt::format("measured: prefill {:.0f} tokens/s, decode {:.0f} tokens/s",
                            speeds_.prefill_tokens_per_s, speeds_.decode_tokens_per_s));
  progress_.say(fmt::format("{} trials planned, {} to make; about {}", plan_.trial_count,
                            plan_.trial_count - static_cast<int>(done_.size()), format_duration(left_s())));
  if (scale_ < 1) {
    progress_.say(fmt::format("repeats scaled by {:.2f}: the whole study would take {} and the budget is {}",
                              scale_, format_duration(whole_s), format_duration(*spec_.time_budget_s)));
  }
  progress_.set_total(static_cast<int>(done_.size()), plan_.trial_count, left_s());
  if (earlier) return {};
  const json detail = {{"scale", scale_},
                       {"estimate_s", whole_s},
                       {"budget_s", spec_.time_budget_s ? json(*spec_.time_budget_s) : json()},
                       {"prefill_tokens_per_s", speeds_.prefill_tokens_per_s},
                       {"decode_tokens_per_s", speeds_.decode_tokens_per_s}};
  return record_event("budget", detail.dump());
}

Status StudySession::measure_blocks() {
  for (const PlannedVisit& visit : plan_.visits) {
    if (halted()) return {};
    const bool all_done =
        std::ranges::all_of(visit.trials, [&](const auto& trial) { return done_.contains(trial.id); });
    if (all_done || excluded(visit.configuration)) continue;
    CRIBLE_RETURN_IF_ERROR(measure_visit(visit));
  }
  return {};
}

Attempt<bool> StudySession::warm_up_visit(const PlannedVisit& visit) {
  phase_ = StudyPhase::kWarmUp;
  const uint64_t seed = visit.trials.front().seed ^ 0x5eed;
  CRIBLE_ATTEMPT(const WarmUp result,
                 phases_.run(StudyPhase::kWarmUp, "warming up " + visit.configuration, [&] {
                   return warm_up(client(), *words_, deployed_->state.served_model, seed, {}, stop_);
                 }));
  const json detail = {
      {"launch", deployed_->launch.id}, {"steady", result.steady}, {"latencies_ms", result.latencies_ms}};
  if (const Status stored = record_event("warm_up", detail.dump()); !stored) {
    return study_stopped(FailureCause::kUnknown, stored.error().message);
  }
  return true;
}

Status StudySession::measure_visit(const PlannedVisit& visit) {
  const ConfigurationSpec& configuration = configuration_named(visit.configuration);
  bool ready = false;
  for (const PlannedTrial& planned : visit.trials) {
    if (done_.contains(planned.id)) continue;
    // It may have died while nothing was asked of it, even in an earlier visit.
    if (const auto death = deployment_.death()) {
      const std::string victim = deployed_->launch.configuration;
      ++strikes_[victim];
      CRIBLE_RETURN_IF_ERROR(record_failure(*death, StudyPhase::kMeasure, victim, {}));
      if (excluded(visit.configuration)) return {};
    }
    if (deployment_.server() == nullptr) ready = false;
    if (!ready) {
      Attempt<bool> prepared = prepare(configuration, visit.block);
      if (prepared) prepared = warm_up_visit(visit);
      if (!prepared) {
        if (prepared.error().interrupted) return {};
        ++strikes_[visit.configuration];
        if (prepared.error().stops_study) stopped_ = prepared.error();
        return record_failure(prepared.error(), phase_, visit.configuration, {});
      }
      ready = true;
    }
    CRIBLE_RETURN_IF_ERROR(measure_planned(visit, planned, configuration));
    if (halted() || excluded(visit.configuration)) return {};
  }
  return {};
}

Status StudySession::measure_planned(const PlannedVisit& visit, const PlannedTrial& planned,
                                     const ConfigurationSpec& configuration) {
  phase_ = StudyPhase::kMeasure;
  const ScenarioSpec& scenario = scaled(planned.scenario);
  const TrialPlan trial_plan{
      planned,     scenario,             configuration.name, deployed_->launch.id,
      visit.block, visit.order_in_block, telemetry()};
  std::optional<TrialRecord> trial;
  const auto measured = phases_.run(StudyPhase::kMeasure, "measuring " + planned.id, [&]() -> Attempt<bool> {
    progress_.trial_started(visit.block, spec_.blocks, configuration.name, planned.scenario,
                            scenario_named(planned.scenario).work(scenario).requests,
                            remaining_->trial_s(configuration.name, planned.scenario));
    trial = measure_trial(trial_plan, *deployment_.server(), deployed_->state, client(), *words_, progress_,
                          stop_);
    return true;
  });
  if (!measured && measured.error().interrupted) return {};
  // A trial in which the server died counts: its failed requests are what this configuration did.
  CRIBLE_RETURN_IF_ERROR(store_->append_trial(*trial));
  done_.insert(trial->id);
  ++measured_here_;
  remaining_->learn(configuration.name, planned.scenario, static_cast<double>(trial->duration_ns) * 1e-9);
  progress_.trial_ended(*trial, left_s());
  if (!measured) {
    ++strikes_[configuration.name];
    return record_failure(measured.error(), StudyPhase::kMeasure, configuration.name, planned.id);
  }
  const bool troubled = std::ranges::any_of(
      trial->requests, [](const RequestRecord& r) { return r.status != RequestStatus::kOk; });
  if (!troubled) {
    strikes_[configuration.name] = 0;
    return {};
  }
  phase_ = StudyPhase::kGate;
  const auto survived = phases_.run(StudyPhase::kGate, "does it still answer: " + configuration.name, [&] {
    return smoke_gate(client(), deployed_->state.served_model, stop_);
  });
  if (survived || survived.error().interrupted) return {};
  ++strikes_[configuration.name];
  return record_failure(survived.error(), StudyPhase::kGate, configuration.name, planned.id);
}

Result<RunSummary> StudySession::conclude() {
  deployment_.stop_server();
  RunSummary summary;
  summary.trials_planned = plan_.trial_count;
  summary.trials_done = static_cast<int>(done_.size());
  summary.failures = failures_;
  if (stopped_) {
    summary.outcome = RunOutcome::kStopped;
    summary.message = stopped_->message;
  } else if (stop_) {
    summary.outcome = RunOutcome::kInterrupted;
    summary.message = "interrupted";
  } else if (done_.empty()) {
    summary.outcome = RunOutcome::kNothingMeasured;
    summary.message = "no configuration could be measured";
  }
  json seconds = json::object();
  for (const auto& [phase, total] : phases_.seconds()) seconds[to_string(phase)] = total;
  const json detail = {{"message", summary.message}, {"phase_seconds", seconds}, {"scale", scale_}};
  CRIBLE_RETURN_IF_ERROR(
      record_event(summary.outcome == RunOutcome::kFinished ? "finished" : "stopped", detail.dump()));
  return summary;
}

Status StudySession::record_failure(const StepFailure& failure, StudyPhase phase,
                                    const std::string& configuration, const std::string& trial_id) {
  ++failures_;
  FailureRecord record;
  record.configuration = configuration;
  record.trial_id = trial_id;
  record.launch_id =
      deployed_ && deployed_->launch.configuration == configuration ? deployed_->launch.id : "";
  record.cause = failure.cause;
  record.phase = phase;
  record.wall_time = wall_time_iso8601();
  record.message = failure.message;
  record.evidence = failure.evidence;
  progress_.say(fmt::format("FAILED {} ({}, {}): {}", configuration, to_string(failure.cause),
                            to_string(phase), failure.message));
  // A death is told once: what is left of the server goes with it.
  if (deployment_.death()) deployment_.stop_server();
  if (store_) return store_->append_failure(record);
  early_failures_.push_back(std::move(record));
  return {};
}

Status StudySession::record_launch(const LaunchRecord& launch) {
  if (store_) return store_->append_launch(launch);
  early_launches_.push_back(launch);
  return {};
}

Status StudySession::record_event(const std::string& kind, const std::string& detail) {
  StudyEvent event{kind, wall_time_iso8601(), detail};
  if (store_) return store_->append_event(event);
  early_events_.push_back(std::move(event));
  return {};
}

bool StudySession::excluded(const std::string& configuration) const {
  const auto strikes = strikes_.find(configuration);
  return strikes != strikes_.end() && strikes->second >= kStrikesAllowed;
}

bool StudySession::has_work(const std::string& configuration) const {
  return std::ranges::any_of(plan_.visits, [&](const PlannedVisit& visit) {
    return visit.configuration == configuration &&
           std::ranges::any_of(visit.trials,
                               [&](const PlannedTrial& trial) { return !done_.contains(trial.id); });
  });
}

load::Client& StudySession::client() {
  const std::string url = load::to_url(deployment_.server()->endpoint());
  if (!client_ || client_url_ != url) {
    auto created = load::Client::create(deployment_.server()->endpoint());
    CHECK(created.has_value(), "the address answered a moment ago: {}", created.error().message);
    client_ = std::move(*created);
    client_url_ = url;
  }
  return *client_;
}

double StudySession::left_s() const {
  double left = 0;
  for (const PlannedVisit& visit : plan_.visits) {
    if (excluded(visit.configuration)) continue;
    double visit_s = 0;
    for (const PlannedTrial& trial : visit.trials) {
      if (!done_.contains(trial.id)) visit_s += remaining_->trial_s(visit.configuration, trial.scenario);
    }
    if (visit_s > 0) left += visit_s + kVisitOverheadS;
  }
  return left;
}

const ConfigurationSpec& StudySession::configuration_named(const std::string& name) const {
  const auto found = std::ranges::find(spec_.configurations, name, &ConfigurationSpec::name);
  CHECK(found != spec_.configurations.end(), "the plan names an unknown configuration '{}'", name);
  return *found;
}

const ScenarioSpec& StudySession::scaled(const std::string& scenario) const {
  const auto found = std::ranges::find(scenarios_, scenario, &ScenarioSpec::name);
  CHECK(found != scenarios_.end(), "the plan names an unknown scenario '{}'", scenario);
  return *found;
}

}  // namespace crible::study
