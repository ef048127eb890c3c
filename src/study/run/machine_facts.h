// What a study notes about the machine and the model file, read from the operating system.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "study/record/trial.h"
#include "study/run/server_state.h"

namespace crible::study {

MachineRecord read_machine(const std::string& program_version);
// What the server says of its device, where it does.
void add_device(MachineRecord& machine, const ServerState& state);

// The server's word on the model; size and sum of the file where it lies on this machine.
ModelRecord read_model(const std::string& path, const ServerState* state);

}  // namespace crible::study
