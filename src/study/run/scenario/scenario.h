// What every scenario is: a script of requests over one client, written into a recorder. Scenarios
// know parameters, prompts and labels; they know no configuration, no store and no clock of their own.
// One file per scenario; scenarios.cc lists them.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "load/client.h"
#include "load/prompt.h"
#include "study/record/spec.h"
#include "study/run/trial_recorder.h"

namespace crible::study {

struct ScenarioContext {
  load::Client& client;
  const load::WordPool& words;
  const std::string& model;  // name that the server serves
  const ScenarioSpec& spec;
  uint64_t seed = 0;  // the trial's own
  Clock::duration request_timeout = std::chrono::seconds(120);
  TrialRecorder& recorder;
  const std::atomic<bool>& stop;
};

// Upper bounds of the work in one trial, for the estimate of a study's time.
struct ScenarioWork {
  int requests = 0;
  double prompt_tokens = 0;  // computed if nothing is cached
  double decode_steps = 0;   // steps one after another; streams side by side share them
  double pause_s = 0;
};

struct Scenario {
  std::string_view name;
  void (*run)(ScenarioContext& context);
  ScenarioWork (*work)(const ScenarioSpec& spec);
  std::string_view repeats;  // parameter that a time budget scales
};

// Every scenario of the record's table is here: a CHECK otherwise.
const Scenario& scenario_named(std::string_view name);

// Shared by the scenarios: a completion of exactly `output_tokens` over token ids.
load::Request completion_request(const ScenarioContext& context, std::span<const TokenId> prompt,
                                 int output_tokens);

// The scenarios.
void run_kv_cache(ScenarioContext& context);
ScenarioWork kv_cache_work(const ScenarioSpec& spec);
void run_conversation(ScenarioContext& context);
ScenarioWork conversation_work(const ScenarioSpec& spec);
void run_stability(ScenarioContext& context);
ScenarioWork stability_work(const ScenarioSpec& spec);
void run_concurrency(ScenarioContext& context);
ScenarioWork concurrency_work(const ScenarioSpec& spec);

}  // namespace crible::study
