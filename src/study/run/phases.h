// The one wrapper through which every phase of a study runs: named, timed, interruptible, verified. A
// phase that ends with the server dead has failed whatever it returned, and a failure of a phase whose
// server died is explained by the death. CONTRACT.md states the rules.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/clock.h"
#include "study/run/attempt.h"
#include "study/run/progress.h"

namespace crible::study {

class Phases {
 public:
  // death: why the server that this program started has ended, if it has.
  Phases(const std::atomic<bool>& stop, Progress& progress, std::function<std::optional<StepFailure>()> death)
      : stop_(stop), progress_(progress), death_(std::move(death)) {}

  // body: () -> Attempt<T>. `what` is shown while it runs.
  template <typename Body>
  auto run(StudyPhase phase, const std::string& what, Body&& body) -> decltype(body()) {
    if (stop_) return interrupted();
    progress_.step(what);
    const TimePoint start = now();
    auto result = body();
    seconds_[phase] += to_seconds(now() - start);
    if (stop_ && (!result || phase == StudyPhase::kMeasure)) return interrupted();
    if (auto death = death_()) {
      if (!result) death->evidence.push_back("meanwhile: " + result.error().message);
      return tl::unexpected(*std::move(death));
    }
    return result;
  }

  // Total time per phase.
  const std::map<StudyPhase, double>& seconds() const { return seconds_; }

 private:
  const std::atomic<bool>& stop_;
  Progress& progress_;
  std::function<std::optional<StepFailure>()> death_;
  std::map<StudyPhase, double> seconds_;
};

}  // namespace crible::study
