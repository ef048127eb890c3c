// What a study writes down: plain records of machine, model, launches, trials, requests and
// failures. They hold measurements only; every statistic is computed from them later (metrics.h).
// All *_ns stamps are on the monotonic clock, relative to the start of their trial; kUnset where
// the event did not happen. Wall times are labels, never used for durations.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace crible::study {

// Knob name (as in config's field table) -> canonical text of its value ("true", "0.85", "32").
using Knobs = std::map<std::string, std::string>;

inline constexpr int64_t kUnset = -1;

enum class RequestStatus { kOk, kError, kTimeout, kCancelled };

// What the workload meant the request to be. Whether it really was a HIT is decided by the
// server's cached-token count (metrics.h), never by this label.
enum class CacheRole { kNone, kMiss, kHit };

struct RequestRecord {
  int index = 0;  // order of scheduling within the trial, from 0
  // Labels.
  CacheRole role = CacheRole::kNone;
  std::string pair_id;  // joins a MISS to its HIT; empty when unpaired
  int turn = 0;         // conversation turn, from 0
  int stream = 0;       // which client stream of the trial sent it
  int level = 0;        // concurrency level (streams) or rate step in effect; 0 where none
  // Stamps.
  int64_t scheduled_ns = 0;             // when the workload wanted it sent
  int64_t actual_send_ns = 0;           // when its first byte was handed to the socket
  int64_t first_token_ns = kUnset;      // first frame with a non-empty token of any kind
  int64_t first_output_ns = kUnset;     // first non-reasoning token
  int64_t last_token_ns = kUnset;       // last token frame: the end of E2EL
  int64_t end_ns = kUnset;              // stream closed, or given up
  std::vector<int64_t> token_gaps_ns;   // between consecutive token frames; size = frames - 1
  // Outcome.
  RequestStatus status = RequestStatus::kOk;
  int http_code = 0;  // 0 when no response line arrived
  std::string error;  // empty when ok
  std::string finish_reason;
  // Counts as the server's usage object states them; cached is absent when it does not report it.
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  std::optional<int64_t> cached_tokens;

  bool operator==(const RequestRecord&) const = default;
};

struct MemorySample {
  int64_t at_ns = 0;
  int64_t device_used_bytes = kUnset;
  int64_t device_total_bytes = kUnset;
  int64_t server_resident_bytes = kUnset;

  bool operator==(const MemorySample&) const = default;
};

// One GPU that the server computes on, at one moment; samples of several GPUs at one moment have the same at_ns.
// A figure that the GPU does not give is kUnset.
struct GpuSample {
  int64_t at_ns = 0;
  int gpu = 0;                         // as NVML counts
  int64_t memory_used_bytes = kUnset;  // by all processes
  int64_t memory_total_bytes = kUnset;
  int64_t utilization_percent = kUnset;
  int64_t power_mw = kUnset;
  int64_t energy_mj = kUnset;  // a counter; only differences mean anything
  int64_t temperature_c = kUnset;
  int64_t sm_clock_mhz = kUnset;
  int64_t memory_clock_mhz = kUnset;
  int64_t throttle_reasons = kUnset;  // bits of GpuThrottle (base/gpu_telemetry.h)

  bool operator==(const GpuSample&) const = default;
};

// Did the load generator deliver what it promised, and did the machine leave the trial alone? An invalid trial is kept but not counted.
struct Validity {
  bool valid = true;
  std::vector<std::string> reasons;  // why not; or remarks when valid

  bool operator==(const Validity&) const = default;
};

struct TrialRecord {
  std::string id;  // from the plan (plan.h); unique in a study, the same on resume
  std::string scenario;
  std::string configuration;
  int block = 0;           // repetition, from 0
  int order_in_block = 0;  // place of the configuration in its block, from 0
  std::string launch_id;   // LaunchRecord::id
  std::string start_wall_time;
  int64_t duration_ns = 0;
  std::vector<RequestRecord> requests;
  // Server counters (Prometheus sample name -> value) just before and just after.
  std::map<std::string, double> counters_before;
  std::map<std::string, double> counters_after;
  std::vector<MemorySample> memory;
  std::vector<GpuSample> gpu;  // none without a GPU
  Validity validity;

  bool operator==(const TrialRecord&) const = default;
};

// A knob that resolution changed.
struct AdjustmentRecord {
  std::string knob;
  std::string requested;
  std::string resolved;
  std::string reason;

  bool operator==(const AdjustmentRecord&) const = default;
};

// One period in which a server was up in one configuration: begun by a boot, or by a live
// reconfiguration of the server of an earlier launch.
struct LaunchRecord {
  std::string id;  // unique in a study
  std::string configuration;
  int block = 0;
  std::string start_wall_time;
  std::string requested_json;  // JSON objects: knob -> value
  std::string resolved_json;
  std::string effective_json;  // as the running server reports of itself
  std::vector<AdjustmentRecord> adjustments;
  std::vector<std::string> command_line;
  std::optional<double> boot_ms;         // spawn -> first good health answer
  std::optional<double> reconfigure_ms;  // live change -> answer
  std::string log_path;                  // relative to the store's folder

  bool operator==(const LaunchRecord&) const = default;
};

enum class FailureCause {
  kBadFlag,
  kBadModel,
  kOutOfMemory,
  kCrash,
  kHang,
  kTimeout,
  kAuth,
  kQuality,
  kEffectiveMismatch,  // the running server is not in the configuration asked for
  kUnknown,
};

enum class StudyPhase { kPreflight, kBoot, kAssertEffective, kWarmUp, kGate, kMeasure, kShutdown };

struct FailureRecord {
  std::string configuration;
  std::string trial_id;   // empty when it struck outside a trial
  std::string launch_id;  // empty when no server came up
  FailureCause cause = FailureCause::kUnknown;
  StudyPhase phase = StudyPhase::kBoot;
  std::string wall_time;
  std::string message;                // one sentence: what failed
  std::vector<std::string> evidence;  // the log lines that show it

  bool operator==(const FailureRecord&) const = default;
};

struct MachineRecord {
  std::string host;
  std::string cpu_model;
  int cpu_cores = 0;
  std::string cpu_features;  // instruction sets that the kernels use
  int64_t memory_bytes = 0;
  std::string device;  // what the server computes on: "cpu", or the accelerator's name
  int64_t device_memory_bytes = 0;
  std::string os;
  std::string program_version;

  bool operator==(const MachineRecord&) const = default;
};

struct ModelRecord {
  std::string name;  // as the server serves it
  std::string path;
  std::string architecture;
  std::string quantization;
  int64_t file_bytes = 0;
  int64_t parameters = 0;
  int64_t context_tokens = 0;
  std::string sha256;  // empty when the file is not on this machine

  bool operator==(const ModelRecord&) const = default;
};

// Stable lower-case names, as they stand in stores and in report.json; parse_* fail with nullopt.
const char* to_string(RequestStatus status);
const char* to_string(CacheRole role);
const char* to_string(FailureCause cause);
const char* to_string(StudyPhase phase);
std::optional<RequestStatus> parse_request_status(const std::string& name);
std::optional<CacheRole> parse_cache_role(const std::string& name);
std::optional<FailureCause> parse_failure_cause(const std::string& name);
std::optional<StudyPhase> parse_study_phase(const std::string& name);

}  // namespace crible::study
