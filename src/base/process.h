// A child process that this program started: spawned in its own process group, output to a file,
// ended by its own handle. Nothing here ever signals a process it did not start.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace crible {

struct ExitStatus {
  bool signaled = false;
  int code = 0;  // exit code, or the signal's number when signaled
};

struct ProcessUsage {
  int64_t resident_bytes = 0;
  double cpu_seconds = 0;  // user + system, of the process itself
};

class ChildProcess {
 public:
  // argv[0] is looked up in PATH. environment adds to (or replaces in) the parent's. stdout and
  // stderr are appended to log_file. The child receives SIGKILL when the calling thread ends: spawn
  // from a thread that outlives it.
  static Result<ChildProcess> spawn(const std::vector<std::string>& argv,
                                    const std::vector<std::pair<std::string, std::string>>& environment,
                                    const std::filesystem::path& log_file);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  // Kills the process group if it still runs.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // The exit status if it has ended, without waiting.
  std::optional<ExitStatus> poll();
  std::optional<ExitStatus> wait_for(std::chrono::milliseconds timeout);
  void signal(int signal_number);
  // SIGTERM, then SIGKILL to the group after `grace`.
  ExitStatus stop(std::chrono::milliseconds grace);
  // From /proc; fails once it has ended.
  Result<ProcessUsage> usage() const;

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
  std::optional<ExitStatus> status_;
};

// Path of the running executable, so that `crible study` can start `crible serve`.
Result<std::filesystem::path> current_executable();

// Usage of any process by id (0 = this one).
Result<ProcessUsage> process_usage(pid_t pid);

}  // namespace crible
