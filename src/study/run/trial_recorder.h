// Collects the exchanges of one trial as the record wants them: stamps relative to the trial's start,
// labels, and what was asked for, so that the run can be judged afterwards. Used on the client's thread.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
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
  // on_request is told the number of requests so far and the latest TTFT in milliseconds, if any.
  using OnRequest = std::function<void(int requests, std::optional<double> ttft_ms)>;
  explicit TrialRecorder(OnRequest on_request = {})
      : start_(now()), wall_start_(std::chrono::system_clock::now()), on_request_(std::move(on_request)) {}

  void add(RequestLabels labels, load::Exchange&& exchange);
  int requests() const { return static_cast<int>(entries_.size()); }
  TimePoint start() const { return start_; }
  // Requests that neither succeeded nor were cancelled.
  int failures() const { return failures_; }

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
  int failures_ = 0;
  OnRequest on_request_;
};

}  // namespace crible::study
