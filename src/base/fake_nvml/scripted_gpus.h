// What the management library of the tests says, for as long as the object lives (fake_nvml.cc has the words).
// Sets the environment: not while another thread may read it.
#pragma once

#include <cstdlib>
#include <string>

namespace crible {

class ScriptedGpus {
 public:
  explicit ScriptedGpus(const std::string& script) { say(script); }
  ~ScriptedGpus() { ::unsetenv("CRIBLE_FAKE_NVML"); }
  ScriptedGpus(const ScriptedGpus&) = delete;
  ScriptedGpus& operator=(const ScriptedGpus&) = delete;

  void say(const std::string& script) { ::setenv("CRIBLE_FAKE_NVML", script.c_str(), 1); }
};

}  // namespace crible
