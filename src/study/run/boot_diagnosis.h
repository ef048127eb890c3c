// Why did a server die? From its exit status, the end of its log, and whether the kernel ended a
// process for want of memory meanwhile. Pure functions over those three.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/process.h"
#include "study/run/attempt.h"

namespace crible::study {

struct DeathScene {
  ExitStatus status;
  std::string log;               // its end
  int64_t kernel_oom_kills = 0;  // during the life of the process
};

StepFailure diagnose_death(const DeathScene& scene);
// It runs, but has not become ready (or does not answer) within the time allowed.
StepFailure diagnose_silence(std::string_view log, double waited_s);

// A message that says that something does not fit in memory, ours or another server's.
bool speaks_of_memory(std::string_view message);

// The lines that show what happened: those that speak of an error, else the last ones.
std::vector<std::string> evidence_lines(std::string_view log);

// Processes ended by the kernel for want of memory, ever; 0 where it does not say.
int64_t kernel_oom_kills();

// The end of a file, at most `bytes`; empty if it cannot be read.
std::string file_tail(const std::string& path, size_t bytes);

}  // namespace crible::study
