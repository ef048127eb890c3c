#include "study/run/boot_diagnosis.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>

namespace crible::study {
namespace {

constexpr size_t kEvidenceLines = 12;
constexpr int kArgumentsWrong = 2;     // the exit code of a command whose arguments are wrong
constexpr int kShellSignalBase = 128;  // a wrapper reports signal N as 128 + N

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

bool mentions(const std::string& text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return text.find(word) != std::string::npos; });
}

std::string last_error_line(std::string_view log) {
  const std::vector<std::string> lines = evidence_lines(log);
  return lines.empty() ? std::string("its log is empty") : lines.back();
}

}  // namespace

std::vector<std::string> evidence_lines(std::string_view log) {
  std::vector<std::string> all;
  std::vector<std::string> errors;
  while (!log.empty()) {
    const size_t end = log.find('\n');
    const std::string line(log.substr(0, end));
    log = end == std::string_view::npos ? std::string_view() : log.substr(end + 1);
    if (line.empty()) continue;
    all.push_back(line);
    if (mentions(lower(line),
                 {"error", "fatal", "cannot", "failed", "check failed", "terminate", "exception"})) {
      errors.push_back(line);
    }
  }
  std::vector<std::string>& chosen = errors.empty() ? all : errors;
  if (chosen.size() > kEvidenceLines) chosen.erase(chosen.begin(), chosen.end() - kEvidenceLines);
  return std::move(chosen);
}

bool speaks_of_memory(std::string_view message) {
  return mentions(lower(message), {"out of memory", "bad_alloc", "cannot allocate", "does not fit",
                                   "the weights take", "of the budget of", "the kv cache has"});
}

StepFailure diagnose_death(const DeathScene& scene) {
  StepFailure failure;
  failure.evidence = evidence_lines(scene.log);
  std::string text;
  for (const std::string& line : failure.evidence) text += lower(line) + "\n";
  const std::string last = last_error_line(scene.log);

  const bool by_wrapper = !scene.status.signaled && scene.status.code > kShellSignalBase;
  const bool signaled = scene.status.signaled || by_wrapper;
  const int number = by_wrapper ? scene.status.code - kShellSignalBase : scene.status.code;
  const bool memory = speaks_of_memory(text);
  if (signaled && number == SIGKILL && scene.kernel_oom_kills > 0) {
    failure.cause = FailureCause::kOutOfMemory;
    failure.message =
        "the kernel ended the server for want of memory; lower device-memory-bytes or the utilisation";
  } else if (memory) {
    failure.cause = FailureCause::kOutOfMemory;
    failure.message = "the server ran out of memory: " + last;
  } else if (signaled) {
    failure.cause = FailureCause::kCrash;
    failure.message =
        fmt::format("the server was ended by signal {} ({}): {}", number, ::strsignal(number), last);
  } else if (scene.status.code == kArgumentsWrong) {
    const bool model = mentions(text, {"gguf", "model file", "architecture", "tensor", "cannot open"});
    failure.cause = model ? FailureCause::kBadModel : FailureCause::kBadFlag;
    failure.message = fmt::format("the server refused its {}: {}", model ? "model" : "arguments", last);
  } else if (mentions(text, {"address already in use", "port"}) &&
             mentions(text, {"in use", "busy", "bind"})) {
    failure.cause = FailureCause::kUnknown;
    failure.message = "the server could not listen: " + last;
  } else if (scene.status.code == 0) {
    failure.cause = FailureCause::kCrash;
    failure.message = "the server ended by itself, without an error: " + last;
  } else {
    failure.cause = FailureCause::kCrash;
    failure.message = fmt::format("the server ended with exit code {}: {}", scene.status.code, last);
  }
  return failure;
}

StepFailure diagnose_silence(std::string_view log, double waited_s) {
  return {FailureCause::kHang, fmt::format("the server runs but was not ready after {:.0f} s", waited_s),
          evidence_lines(log), false, false};
}

int64_t kernel_oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

std::string file_tail(const std::string& path, size_t bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<size_t>(file.tellg());
  const size_t wanted = std::min(size, bytes);
  std::string text(wanted, '\0');
  file.seekg(static_cast<std::streamoff>(size - wanted));
  file.read(text.data(), static_cast<std::streamsize>(wanted));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

}  // namespace crible::study
