#include "study/run/machine_facts.h"

#include <sys/sysinfo.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "study/run/sha256.h"

namespace crible::study {
namespace {

// Instruction sets that decide the speed of a CPU server, as the kernel names them.
constexpr std::string_view kTelling[] = {"avx2",        "fma",         "f16c",    "avx512f",
                                         "avx512_vnni", "avx512_bf16", "amx_tile"};

// Value of the first "key<sep>value" line that starts with key.
std::string line_value(const char* path, std::string_view key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::string value = line.substr(std::min(line.size(), line.find(separator) + 1));
    value.erase(0, value.find_first_not_of(" \t\""));
    while (!value.empty() && (value.back() == '"' || value.back() == ' ')) value.pop_back();
    return value;
  }
  return {};
}

std::string telling_features() {
  std::istringstream flags(line_value("/proc/cpuinfo", "flags", ':'));
  std::string found;
  for (std::string flag; flags >> flag;) {
    for (const std::string_view wanted : kTelling) {
      if (flag == wanted) found += (found.empty() ? "" : " ") + flag;
    }
  }
  return found;
}

}  // namespace

MachineRecord read_machine(const std::string& program_version) {
  MachineRecord machine;
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  machine.host = host;
  machine.cpu_model = line_value("/proc/cpuinfo", "model name", ':');
  machine.cpu_cores = static_cast<int>(std::thread::hardware_concurrency());
  struct sysinfo info {};
  ::sysinfo(&info);
  machine.memory_bytes = static_cast<int64_t>(info.totalram) * info.mem_unit;
  machine.cpu_features = telling_features();
  machine.os = line_value("/etc/os-release", "PRETTY_NAME", '=');
  machine.program_version = program_version;
  return machine;
}

void add_device(MachineRecord& machine, const ServerState& state) {
  machine.device = state.device;
  if (!state.cpu_features.empty()) machine.cpu_features = state.cpu_features;
  if (state.device_memory_bytes != kUnset) machine.device_memory_bytes = state.device_memory_bytes;
}

ModelRecord read_model(const std::string& path, const ServerState* state) {
  ModelRecord model;
  if (state != nullptr) model = state->model;
  model.path = path;
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  if (!error) {
    model.file_bytes = static_cast<int64_t>(bytes);
    model.sha256 = sha256_of_file(path).value_or("");
  }
  if (model.name.empty()) model.name = std::filesystem::path(path).stem().string();
  return model;
}

}  // namespace crible::study
