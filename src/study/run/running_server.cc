#include "study/run/running_server.h"

#include <charconv>
#include <thread>

#include "base/atomic_file.h"
#include "base/clock.h"
#include "study/run/boot_diagnosis.h"
#include "study/run/server_state.h"

namespace crible::study {
namespace {

constexpr size_t kLogTail = 16 << 10;
constexpr std::chrono::milliseconds kPollInterval{10};
constexpr std::chrono::seconds kStopGrace{10};

StepFailure death_of(const ExitStatus& status, const std::filesystem::path& log, int64_t oom_kills_before) {
  return diagnose_death({status, file_tail(log.string(), kLogTail), kernel_oom_kills() - oom_kills_before});
}

std::optional<uint16_t> read_port(const std::filesystem::path& ready_file) {
  const auto text = read_file(ready_file, 64);
  if (!text) return std::nullopt;
  uint16_t port = 0;
  std::from_chars(text->data(), text->data() + text->size(), port);
  return port > 0 ? std::optional(port) : std::nullopt;
}

}  // namespace

Attempt<uint16_t> RunningServer::await_port(ChildProcess& child, const BootPlan& plan, TimePoint start,
                                            int64_t oom_kills, const std::atomic<bool>& stop) {
  while (true) {
    if (stop) return interrupted();
    if (const auto ended = child.poll()) return tl::unexpected(death_of(*ended, plan.log_file, oom_kills));
    if (const auto port = read_port(plan.ready_file)) return *port;
    if (now() - start > plan.deadline) {
      return tl::unexpected(
          diagnose_silence(file_tail(plan.log_file.string(), kLogTail), to_seconds(now() - start)));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

Attempt<RunningServer> RunningServer::boot(const BootPlan& plan, const std::atomic<bool>& stop) {
  std::error_code ignored;
  std::filesystem::remove(plan.ready_file, ignored);
  const int64_t oom_kills = kernel_oom_kills();
  const TimePoint start = now();
  std::vector<std::pair<std::string, std::string>> environment;
  // Not on the command line: other users can read that.
  if (!plan.api_key.empty()) environment.emplace_back("CRIBLE_API_KEY", plan.api_key);
  auto child = ChildProcess::spawn(plan.command, environment, plan.log_file);
  if (!child) return tl::unexpected(from_error(child.error()));
  CRIBLE_ATTEMPT(const uint16_t port, await_port(*child, plan, start, oom_kills, stop));

  RunningServer server(
      load::HttpCaller({.host = "127.0.0.1", .port = port, .base_path = {}, .api_key = plan.api_key}));
  while (!is_healthy(server.caller_)) {
    if (stop) return interrupted();
    if (const auto ended = child->poll()) return tl::unexpected(death_of(*ended, plan.log_file, oom_kills));
    if (now() - start > plan.deadline) {
      return tl::unexpected(
          diagnose_silence(file_tail(plan.log_file.string(), kLogTail), to_seconds(now() - start)));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  std::filesystem::remove(plan.ready_file, ignored);
  server.boot_ms_ = to_ms(now() - start);
  server.child_ = std::move(*child);
  server.command_ = plan.command;
  server.log_file_ = plan.log_file;
  server.oom_kills_at_boot_ = oom_kills;
  return server;
}

Attempt<RunningServer> RunningServer::attach(const std::string& url, const std::string& api_key) {
  auto endpoint = load::parse_endpoint(url);
  if (!endpoint) return tl::unexpected(from_error(endpoint.error()));
  endpoint->api_key = api_key;
  RunningServer server{load::HttpCaller(*endpoint)};
  const auto reply = server.caller_.get("/health", std::chrono::milliseconds(5'000));
  if (!reply) {
    return step_failed(from_error(reply.error()).cause,
                       fmt::format("no server at {}: {}", url, reply.error().message));
  }
  if (reply->code != 200) {
    return step_failed(FailureCause::kUnknown,
                       fmt::format("the server at {} is not healthy: /health answered {}", url, reply->code));
  }
  return server;
}

std::optional<StepFailure> RunningServer::death() {
  if (!child_) return std::nullopt;
  const auto ended = child_->poll();
  if (!ended) return std::nullopt;
  return death_of(*ended, log_file_, oom_kills_at_boot_);
}

void RunningServer::stop() {
  if (child_ && !child_->poll()) child_->stop(kStopGrace);
}

}  // namespace crible::study
