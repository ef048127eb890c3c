// Which GPUs of this machine belong to a server under test, what they say, and what of it spoils a trial. The
// GPUs are read by the study itself, the same way for every server; those of another machine are not known.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/gpu_telemetry.h"
#include "load/endpoint.h"
#include "study/record/trial.h"
#include "study/run/server_state.h"

namespace crible::study {

// A server of ours: where its process computes, or the first GPUs it can see, as many as it says it uses, if the
// driver hides its number. One that was there already on this machine: every visible GPU with a process on it.
// None if it says that it computes on the CPU.
std::vector<int> gpus_of_server(const GpuTelemetry& telemetry, const load::Endpoint& endpoint,
                                std::optional<pid_t> pid, const ServerState& state);

// "cuda" or "cpu", as the server reports it; empty where it does not.
std::string device_setting(const ServerState& state);

GpuSample to_sample(const GpuReading& reading, int64_t at_ns);

// Heat or the power supply that slowed the GPUs down for more than a little of the trial makes it invalid, for
// less a remark. The power limit is not a disturbance: the same work meets it again.
void judge_gpus(TrialRecord& trial);

// Before anything is started: what other processes hold or do on the visible GPUs, a sentence for each GPU.
std::vector<std::string> busy_gpus(const GpuTelemetry& telemetry);

}  // namespace crible::study
