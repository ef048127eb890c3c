#include "base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/atomic_file.h"
#include "base/check.h"
#include "base/clock.h"

extern char** environ;

namespace crible {
namespace {

std::vector<std::string> merged_environment(
    const std::vector<std::pair<std::string, std::string>>& extra) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view key = text.substr(0, text.find('='));
    bool replaced = false;
    for (const auto& [name, value] : extra) replaced |= name == key;
    if (!replaced) merged.emplace_back(text);
  }
  for (const auto& [name, value] : extra) merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& s : strings) result.push_back(s.data());
  result.push_back(nullptr);
  return result;
}

ExitStatus decode(int status) {
  if (WIFSIGNALED(status)) return {.signaled = true, .code = WTERMSIG(status)};
  return {.signaled = false, .code = WEXITSTATUS(status)};
}

}  // namespace

Result<ChildProcess> ChildProcess::spawn(
    const std::vector<std::string>& argv,
    const std::vector<std::pair<std::string, std::string>>& environment,
    const std::filesystem::path& log_file) {
  CHECK(!argv.empty());
  // Everything that allocates happens before fork: the child may only call async-signal-safe
  // functions.
  std::vector<std::string> arguments = argv;
  std::vector<std::string> variables = merged_environment(environment);
  std::vector<char*> argument_pointers = pointers(arguments);
  std::vector<char*> variable_pointers = pointers(variables);

  const int log = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    return fail(ErrorCode::kIo, "cannot open the log {}: {}", log_file.string(), std::strerror(errno));
  }
  // exec failure is reported through this pipe: closed by a successful exec.
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    const int code = errno;
    ::close(log);
    return fail(ErrorCode::kIo, "cannot create a pipe: {}", std::strerror(code));
  }
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, 0);
    ::dup2(log, 1);
    ::dup2(log, 2);
    ::execvpe(argument_pointers[0], argument_pointers.data(), variable_pointers.data());
    const int code = errno;
    [[maybe_unused]] const ssize_t n = ::write(report[1], &code, sizeof code);
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(log);
  ::close(report[1]);
  if (pid < 0) {
    ::close(report[0]);
    return fail(ErrorCode::kResourceExhausted, "cannot start a process: {}", std::strerror(fork_error));
  }
  int exec_error = 0;
  ssize_t n;
  do {
    n = ::read(report[0], &exec_error, sizeof exec_error);
  } while (n < 0 && errno == EINTR);
  ::close(report[0]);
  if (n == sizeof exec_error) {
    ::waitpid(pid, nullptr, 0);
    return fail(ErrorCode::kNotFound, "cannot run '{}': {}", argv[0], std::strerror(exec_error));
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(std::move(other.status_)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(status_, other.status_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !poll()) {
    ::kill(-pid_, SIGKILL);
    wait_for(std::chrono::seconds(10));
  }
}

std::optional<ExitStatus> ChildProcess::poll() {
  if (status_ || pid_ <= 0) return status_;
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) == pid_) status_ = decode(status);
  return status_;
}

std::optional<ExitStatus> ChildProcess::wait_for(std::chrono::milliseconds timeout) {
  const TimePoint deadline = now() + timeout;
  while (!poll() && now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return status_;
}

void ChildProcess::signal(int signal_number) {
  if (pid_ > 0 && !poll()) ::kill(pid_, signal_number);
}

ExitStatus ChildProcess::stop(std::chrono::milliseconds grace) {
  signal(SIGTERM);
  if (auto status = wait_for(grace)) return *status;
  ::kill(-pid_, SIGKILL);
  auto status = wait_for(std::chrono::seconds(30));
  CHECK(status.has_value(), "process {} survived SIGKILL", pid_);
  return *status;
}

Result<ProcessUsage> ChildProcess::usage() const {
  if (pid_ <= 0 || status_) return fail(ErrorCode::kNotFound, "the process has ended");
  return process_usage(pid_);
}

Result<std::filesystem::path> current_executable() {
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(ErrorCode::kIo, "cannot read /proc/self/exe: {}", error.message());
  return path;
}

Result<ProcessUsage> process_usage(pid_t pid) {
  const std::string path = pid == 0 ? "/proc/self/stat" : fmt::format("/proc/{}/stat", pid);
  CRIBLE_TRY(const std::string stat, read_file(path));
  // The command name, in parentheses, may hold spaces: fields are counted after it (proc(5)).
  const size_t after_name = stat.rfind(')');
  if (after_name == std::string::npos) return fail(ErrorCode::kCorrupt, "{} has no command name", path);
  std::istringstream fields(stat.substr(after_name + 2));
  std::vector<std::string> values;
  for (std::string value; fields >> value;) values.push_back(value);
  constexpr size_t kUserTicks = 11, kSystemTicks = 12, kResidentPages = 21;
  if (values.size() <= kResidentPages) return fail(ErrorCode::kCorrupt, "{} is too short", path);
  const double ticks = std::stod(values[kUserTicks]) + std::stod(values[kSystemTicks]);
  return ProcessUsage{.resident_bytes = std::stoll(values[kResidentPages]) * ::sysconf(_SC_PAGESIZE),
                      .cpu_seconds = ticks / double(::sysconf(_SC_CLK_TCK))};
}

}  // namespace crible
