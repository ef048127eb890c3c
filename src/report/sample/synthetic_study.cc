#include "report/sample/synthetic_study.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "base/check.h"
#include "base/gpu_telemetry.h"
#include "study/record/knobs.h"
#include "study/record/plan.h"
#include "study/record/spec.h"

namespace crible::report {
namespace {

using study::CacheRole;

constexpr double kMs = 1e6;  // nanoseconds
constexpr int64_t kMiBytes = 1 << 20;

constexpr const char* kFour = R"(study: four_configurations
target: {engine: crible, model: models/default.gguf}
base: {device-memory-bytes: 1073741824, max-num-seqs: 32}
configurations:
  - {name: chunked_only_safe, gpu-memory-utilization: 0.85, enable-chunked-prefill: true, enable-prefix-caching: false}
  - {name: safe_conservative, gpu-memory-utilization: 0.85, enable-chunked-prefill: false, enable-prefix-caching: false}
  - {name: optimized_balanced, gpu-memory-utilization: 0.90, enable-chunked-prefill: true, enable-prefix-caching: true}
  - {name: aggressive_cache, gpu-memory-utilization: 0.95, enable-chunked-prefill: true, enable-prefix-caching: true, max-num-seqs: 48}
scenarios: [kv_cache, conversation, stability, concurrency]
blocks: 5
seed: 7
objectives:
  conversational_agents: {minimise: conversation/ttft_ms.p50, subject_to: {error_rate: "<= 0.01"}}
  throughput: {maximise: output_tokens_per_s, subject_to: {concurrency/itl_ms.p99: "<= 100"}}
  generic_production: {minimise: ttft_repeat_ms.p50, subject_to: {error_rate: "<= 0.01", device_memory_share: "<= 0.95"}}
)";

constexpr const char* kOne = R"(study: single
target: {engine: crible, model: models/default.gguf}
configurations: [{name: only, max-num-seqs: 8}]
scenarios: [kv_cache]
blocks: 2
objectives: {agents: {minimise: ttft_hit_ms}}
)";

// The spec refuses names with markup; the model's path is free text.
constexpr const char* kMarkup = R"(study: hostile
target: {engine: crible, model: 'models/<img src=x onerror=alert(1)>|`.gguf'}
configurations:
  - {name: first, max-num-seqs: 8}
  - {name: second, max-num-seqs: 9}
scenarios: [kv_cache]
blocks: 2
objectives: {agents: {minimise: ttft_hit_ms}}
)";

const char* spec_of(SyntheticKind kind) {
  switch (kind) {
    case SyntheticKind::kSingle: return kOne;
    case SyntheticKind::kHostile: return kMarkup;
    default: return kFour;
  }
}

// Random numbers by their own formulas: the standard's distributions differ between libraries.
class Chance {
 public:
  explicit Chance(uint64_t seed) : engine_(seed) {}
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

 private:
  std::mt19937_64 engine_;
};

struct Behaviour {
  bool prefix = false;
  bool chunked = true;
  double memory_share = 0.9;
  bool gpu = false;
};

class TrialMaker {
 public:
  TrialMaker(study::TrialRecord& trial, const Behaviour& behaviour, uint64_t seed, double slowness)
      : trial_(trial), behaviour_(behaviour), chance_(seed), slowness_(slowness) {}

  void make() {
    if (trial_.scenario == "kv_cache") kv_cache();
    if (trial_.scenario == "conversation") conversation();
    if (trial_.scenario == "stability") stability();
    if (trial_.scenario == "concurrency") concurrency();
    trial_.duration_ns = clock_;
    const auto used = static_cast<int64_t>(behaviour_.memory_share * 1024) * kMiBytes - 4 * kMiBytes;
    trial_.memory = {{0, used, 1024 * kMiBytes, 180 * kMiBytes},
                     {clock_ / 2, used, 1024 * kMiBytes,
                      182 * kMiBytes + 4096 * (static_cast<int64_t>(chance_.uniform() * 100))}};
    if (behaviour_.gpu) gpu();
  }

 private:
  void gpu() {
    constexpr int kSamples = 10;
    int64_t energy_mj = 7'000'000;
    for (int i = 0; i <= kSamples; ++i) {
      const auto power_mw = static_cast<int64_t>((behaviour_.prefix ? 420e3 : 510e3) * std::exp(0.05 * chance_.normal()));
      const int64_t step_ns = clock_ / kSamples;
      if (i > 0) energy_mj += static_cast<int64_t>(static_cast<double>(power_mw) * static_cast<double>(step_ns) / 1e9);
      trial_.gpu.push_back({.at_ns = i * step_ns,
                            .gpu = 0,
                            .memory_used_bytes = static_cast<int64_t>(behaviour_.memory_share * 80 * 1024) * kMiBytes,
                            .memory_total_bytes = 80LL * 1024 * kMiBytes,
                            .utilization_percent = 96,
                            .power_mw = power_mw,
                            .energy_mj = energy_mj,
                            .temperature_c = 64,
                            .sm_clock_mhz = 1755,
                            .memory_clock_mhz = 2619,
                            .throttle_reasons = i % 5 == 4 ? static_cast<int64_t>(kGpuPowerCap) : 0});
    }
  }
  void kv_cache() {
    for (int pair = 0; pair < 6; ++pair) {
      for (const CacheRole role : {CacheRole::kMiss, CacheRole::kHit}) {
        const bool cached = role == CacheRole::kHit && behaviour_.prefix;
        study::RequestRecord& request = add(cached ? 46 : 980, 11, 8);
        request.role = role;
        request.pair_id = fmt::format("p{}", pair);
        request.prompt_tokens = 1040;
        request.cached_tokens = cached ? 1008 : 0;
      }
    }
  }
  void conversation() {
    for (int turn = 0; turn < 10; ++turn) {
      const int prompt = 160 + 64 * turn;
      study::RequestRecord& request = add(behaviour_.prefix ? 60 + 0.1 * turn : 0.95 * prompt, 12, 24);
      request.turn = turn;
      request.prompt_tokens = prompt;
      request.cached_tokens = behaviour_.prefix && turn > 0 ? prompt - 80 : 0;
    }
  }
  void stability() {
    for (int i = 0; i < 16; ++i) {
      const int length = std::vector<int>{30, 80, 15, 90}[static_cast<size_t>(i % 4)];
      add(70 * (1 + 0.0004 * i), 12 * (1 + 0.0004 * i), length).prompt_tokens = 64;
    }
  }
  void concurrency() {
    for (const int level : {1, 4, 16}) {
      const int64_t begin = clock_;
      int64_t end = clock_;
      for (int stream = 0; stream < level; ++stream) {
        clock_ = begin;
        for (int i = 0; i < 2; ++i) {
          const double stall = behaviour_.chunked || level == 1 ? 1 : 1.35;
          study::RequestRecord& request = add(120.0 * level * 0.6, 12 * (1 + 0.18 * (level - 1)) * stall, 24);
          request.level = level;
          request.stream = stream;
          request.prompt_tokens = 128;
        }
        end = std::max(end, clock_);
      }
      clock_ = end;
    }
  }

  int64_t noisy(double nominal_ms) {
    return static_cast<int64_t>(nominal_ms * kMs * slowness_ * std::exp(0.04 * chance_.normal()));
  }

  study::RequestRecord& add(double ttft_ms, double gap_ms, int tokens) {
    study::RequestRecord request;
    request.index = static_cast<int>(trial_.requests.size());
    request.scheduled_ns = clock_;
    request.actual_send_ns = clock_ + 20'000;
    request.first_token_ns = clock_ + noisy(ttft_ms);
    request.first_output_ns = request.first_token_ns;
    request.last_token_ns = request.first_token_ns;
    for (int i = 1; i < tokens; ++i) {
      request.token_gaps_ns.push_back(noisy(gap_ms));
      request.last_token_ns += request.token_gaps_ns.back();
    }
    request.end_ns = request.last_token_ns + 100'000;
    request.http_code = 200;
    request.finish_reason = "length";
    request.output_tokens = tokens;
    request.cached_tokens = 0;
    clock_ = request.end_ns + 1'000'000;
    trial_.requests.push_back(std::move(request));
    return trial_.requests.back();
  }

  study::TrialRecord& trial_;
  const Behaviour& behaviour_;
  Chance chance_;
  double slowness_;
  int64_t clock_ = 0;
};

Behaviour behaviour_of(const study::Knobs& knobs) {
  const EngineConfig config = study::to_engine_config(knobs);
  return {config.enable_prefix_caching, config.enable_chunked_prefill, config.gpu_memory_utilization, false};
}

std::string launch_id(int block, const std::string& configuration) {
  return fmt::format("b{}/{}/launch", block, configuration);
}

void add_launch(study::StoredStudy& stored, const study::PlannedVisit& visit, const study::Knobs& knobs) {
  study::LaunchRecord launch;
  launch.id = launch_id(visit.block, visit.configuration);
  launch.configuration = visit.configuration;
  launch.block = visit.block;
  launch.start_wall_time = "2026-01-02T03:04:05Z";
  launch.requested_json = study::knobs_json(knobs);
  study::Knobs effective = knobs;
  effective["max-num-batched-tokens"] = "2048";
  launch.resolved_json = study::knobs_json(effective);
  launch.effective_json = launch.resolved_json;
  launch.adjustments = {
      {"max-num-batched-tokens", "0", "2048", "the budget of a step was left to the program"}};
  launch.command_line = {"crible", "serve", "models/default.gguf", "--port", "0"};
  launch.log_path = "logs/server-1.log";
  if (visit.block == 0 && visit.order_in_block == 0) {
    launch.boot_ms = 412;
  } else {
    launch.reconfigure_ms = 31.5 + visit.block;
  }
  stored.launches.push_back(std::move(launch));
}

study::FailureRecord failure(const std::string& configuration, study::FailureCause cause,
                             study::StudyPhase phase, const std::string& message,
                             std::vector<std::string> evidence) {
  study::FailureRecord record;
  record.configuration = configuration;
  record.cause = cause;
  record.phase = phase;
  record.wall_time = "2026-01-02T03:06:00Z";
  record.message = message;
  record.evidence = std::move(evidence);
  return record;
}

void add_trouble(study::StoredStudy& stored, SyntheticKind kind) {
  if (kind == SyntheticKind::kTroubled) {
    stored.failures.push_back(
        failure("safe_conservative", study::FailureCause::kOutOfMemory, study::StudyPhase::kBoot,
                "the memory plan does not fit: KV blocks need 412 MiB, 180 MiB are left",
                {"[error] plan: weights 98 MiB, arena 746 MiB, KV 412 MiB > 870 MiB",
                 "[error] lower max-num-batched-tokens, or raise gpu-memory-utilization"}));
    stored.failures.push_back(failure("aggressive_cache", study::FailureCause::kCrash,
                                      study::StudyPhase::kMeasure, "the server ended by signal 11 in block 3",
                                      {"signal 11 (SIGSEGV)"}));
  }
  if (kind == SyntheticKind::kHostile) {
    stored.failures.push_back(
        failure("first", study::FailureCause::kUnknown, study::StudyPhase::kGate,
                "</p><script>alert('m')</script> | ``` \x01 \xff",
                {"```", "</code></pre><script>alert(2)</script>", "broken \xc3( utf-8 \xed\xa0\x80"}));
  }
}

// Whether the troubled study holds this visit's trials.
bool ran(SyntheticKind kind, const study::PlannedVisit& visit) {
  if (kind == SyntheticKind::kEmpty) return false;
  if (kind != SyntheticKind::kTroubled) return true;
  if (visit.configuration == "safe_conservative") return false;
  return visit.configuration != "aggressive_cache" || visit.block < 3;
}

}  // namespace

study::StoredStudy make_synthetic_study(SyntheticKind kind) {
  study::StoredStudy stored;
  stored.spec_text = spec_of(kind);
  stored.spec_source = "synthetic.yaml";
  stored.store_path = "study.sqlite";
  stored.machine = {
      "bench-1", "Synthetic CPU 2 cores", 2, "avx2 fma f16c", 8LL << 30, "cpu", 1LL << 30, "Debian 12",
      "0.1.0"};
  stored.model = {"default",  "models/default.gguf", "llama", "Q4_1",
                  98'500'000, 134'515'008,           8192,    std::string(64, 'a')};
  if (kind != SyntheticKind::kEmpty)
    stored.events = {{"started", "2026-01-02T03:04:00Z", ""}, {"finished", "2026-01-02T03:08:00Z", ""}};
  if (kind == SyntheticKind::kGpu) {
    stored.machine.device = "Synthetic GPU";
    stored.machine.device_memory_bytes = 80LL << 30;
    stored.events.insert(stored.events.begin() + 1,
                         {"gpu_busy", "2026-01-02T03:04:01Z", "GPU 0 (Synthetic GPU) is not idle: process 42 holds 3 GiB"});
  }
  const auto spec = study::parse_spec(stored.spec_text, stored.spec_source);
  CHECK(spec.has_value(), "{}", spec ? "" : spec.error().message);
  std::map<std::string, study::Knobs> knobs;
  for (const study::ConfigurationSpec& configuration : spec->configurations)
    knobs[configuration.name] = configuration.knobs;
  for (const study::PlannedVisit& visit : study::make_plan(*spec).visits) {
    if (!ran(kind, visit)) continue;
    add_launch(stored, visit, knobs[visit.configuration]);
    Behaviour behaviour = behaviour_of(knobs[visit.configuration]);
    behaviour.gpu = kind == SyntheticKind::kGpu;
    for (const study::PlannedTrial& planned : visit.trials) {
      study::TrialRecord trial;
      trial.id = planned.id;
      trial.scenario = planned.scenario;
      trial.configuration = visit.configuration;
      trial.block = visit.block;
      trial.order_in_block = visit.order_in_block;
      trial.launch_id = launch_id(visit.block, visit.configuration);
      Chance slowness(planned.seed ^ 0x5eed);
      TrialMaker(trial, behaviour, planned.seed, std::exp(0.03 * visit.block + 0.015 * slowness.normal()))
          .make();
      if (kind == SyntheticKind::kTroubled && trial.id == "b1/optimized_balanced/stability") {
        trial.validity = {false, {"two clocks disagree by 12 ms", "3 of 16 prompts had the wrong length"}};
      }
      if (kind == SyntheticKind::kGpu && trial.id == "b1/optimized_balanced/stability") {
        trial.validity = {false, {"gpu_throttled: in 27.3% of 11 samples the GPU was slowed down (thermal_software)"}};
      }
      stored.trials.push_back(std::move(trial));
    }
  }
  add_trouble(stored, kind);
  return stored;
}

void rename_with_markup(study::StudyResult& study) {
  const std::map<std::string, std::string> names = {
      {"first", "</code><script>alert(1)</script>|`a` & \"q\""},
      {"second", "\u00e9t\u00e9 \u6f22\u5b57 | [x](javascript:alert(1)) *star* _under_ $HOME"}};
  const auto rename = [&](std::string& name) {
    const auto found = names.find(name);
    if (found != names.end()) name = found->second;
  };
  study.spec.name = "<script>alert(\"study\")</script> & | `x` **b** <!--";
  for (auto& configuration : study.configurations) rename(configuration.name);
  for (auto& failure : study.failures) rename(failure.configuration);
  for (auto& artifact : study.artifacts) rename(artifact.configuration);
  for (auto& constraint : study.constraints) rename(constraint.configuration);
  for (auto& contrast : study.contrasts) {
    rename(contrast.a);
    rename(contrast.b);
  }
  for (auto& verdict : study.verdicts) {
    verdict.objective = "<b>case</b>|x";
    rename(verdict.configuration);
    rename(verdict.leading);
    for (auto& contender : verdict.contenders) rename(contender);
    for (auto& reason : verdict.reasons) {
      rename(reason.configuration);
      rename(reason.rival);
    }
  }
}

}  // namespace crible::report
