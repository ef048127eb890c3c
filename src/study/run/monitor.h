// Watches a server while a trial runs: resident memory, device memory and its GPUs a few times a second,
// counters before and after. One thread of its own between start and finish; it must never disturb the measurement,
// so a failed reading is simply missing.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/gpu_telemetry.h"
#include "load/http_call.h"
#include "study/record/trial.h"
#include "study/run/server_state.h"

namespace crible::study {

class Monitor {
 public:
  // pid: the server's process, if it is ours. telemetry: of this machine's GPUs, if it has any; outlives this.
  // Reads the counters; does not watch yet.
  Monitor(const load::Endpoint& endpoint, std::optional<pid_t> pid, const ServerState& state,
          const GpuTelemetry* telemetry);
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  void start(TimePoint trial_start);
  // Stops watching, reads the counters again, and hands everything to the trial.
  void finish(TrialRecord& trial);

 private:
  void watch();
  void sample();
  void sample_gpus();
  void stop();
  std::map<std::string, double> read_counters();

  load::HttpCaller caller_;
  std::optional<pid_t> pid_;
  int64_t device_total_bytes_;
  int64_t device_used_bytes_;
  TimePoint trial_start_;
  std::map<std::string, double> before_;
  const GpuTelemetry* telemetry_;
  std::vector<int> gpus_;               // that are the server's
  std::vector<GpuSample> gpu_samples_;  // the watching thread's, as the next
  std::vector<MemorySample> samples_;   // the watching thread's until it is joined
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace crible::study
