// Collects the exchanges of one trial as the record wants them: stamps relative to the trial's start,
// labels, and what was asked for, so that the run can be judged afterwards. Used on the client's thread.
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load/exchange.h"
#include "load/validity.h"
#include "study/record/trial.h"

namespace crible::study {

struct RequestLabels {
  CacheRole role = CacheRole::kNone;
  std::string pair_id;
  int turn = 0;
  int stream = 0;
  int level = 0;
  std::optional<int64_t> prompt_tokens;  // exact length asked for, where known
  std::optional<int64_t> output_tokens;
};

class TrialRecorder {
 public:
  TrialRecorder() : start_(now()), wall_start_(std::chrono::system_clock::now()) {}

  void add(RequestLabels labels, load::Exchange&& exchange);
  int requests() const { return static_cast<int>(entries_.size()); }
  // Milliseconds from schedule to first token of the latest good request; for display.
  std::optional<double> last_ttft_ms() const { return last_ttft_ms_; }
  TimePoint start() const { return start_; }

  // Call once, when everything has ended. planned: requests that the scenario meant to make.
  void finish(int planned, TrialRecord& trial);

 private:
  struct Entry {
    RequestLabels labels;
    load::Exchange exchange;
  };

  RequestRecord to_record(int index, const Entry& entry) const;

  TimePoint start_;
  std::chrono::system_clock::time_point wall_start_;
  std::deque<Entry> entries_;
  std::optional<double> last_ttft_ms_;
};

}  // namespace crible::study
