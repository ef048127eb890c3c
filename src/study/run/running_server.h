// A server under test: started by this program as a child, or already running at a URL. Owns the
// child: it ends with this object. Boot waits until the health route answers, and says why if it
// never does. Must be used from the thread that boots, which must outlive the child.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/process.h"
#include "load/http_call.h"
#include "study/record/spec.h"
#include "study/run/attempt.h"

namespace crible::study {

struct BootPlan {
  std::vector<std::string> command;
  std::filesystem::path ready_file;
  std::filesystem::path log_file;
  std::string api_key;
  std::chrono::seconds deadline{120};
};

class RunningServer {
 public:
  static Attempt<RunningServer> boot(const BootPlan& plan, const std::atomic<bool>& stop);
  // Checks that it answers.
  static Attempt<RunningServer> attach(const std::string& url, const std::string& api_key);

  load::HttpCaller& caller() { return caller_; }
  const load::Endpoint& endpoint() const { return caller_.endpoint(); }
  bool owned() const { return child_.has_value(); }
  double boot_ms() const { return boot_ms_; }
  const std::vector<std::string>& command() const { return command_; }
  const std::filesystem::path& log_file() const { return log_file_; }
  std::optional<pid_t> pid() const { return child_ ? std::optional(child_->pid()) : std::nullopt; }

  // What killed it, if it was ours and has ended.
  std::optional<StepFailure> death();
  // SIGTERM and a grace; a server that is not ours is left alone.
  void stop();

 private:
  explicit RunningServer(load::HttpCaller caller) : caller_(std::move(caller)) {}
  static Attempt<uint16_t> await_port(ChildProcess& child, const BootPlan& plan, TimePoint start,
                                      int64_t oom_kills, const std::atomic<bool>& stop);

  load::HttpCaller caller_;
  std::optional<ChildProcess> child_;
  std::vector<std::string> command_;
  std::filesystem::path log_file_;
  double boot_ms_ = 0;
  int64_t oom_kills_at_boot_ = 0;
};

}  // namespace crible::study
