// What runs, how far, how long still, the last figures. On a terminal a block of a few lines that is
// redrawn in place and never wider than the window; elsewhere one plain line per event, so that a log
// stays readable. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "study/record/trial.h"

namespace crible::study {

class Progress {
 public:
  // Draws in place if `out` is a terminal.
  explicit Progress(std::FILE* out);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A line that stays.
  void say(const std::string& line);
  // What is being done outside trials: "booting safe_conservative".
  void step(const std::string& what);

  void set_total(int trials_done, int trials_total, double left_s);
  void trial_started(int block, int blocks, const std::string& configuration, const std::string& scenario,
                     int requests_planned, double estimate_s);
  void request_ended(int requests, std::optional<double> ttft_ms);
  // left_s: estimate for what remains after this trial.
  void trial_ended(const TrialRecord& trial, double left_s);
  // Removes the block; only lines that stay remain.
  void close();

 private:
  void tick();
  void draw();
  void erase();
  std::vector<std::string> block_lines() const;
  double left_s() const;

  std::FILE* out_;
  bool terminal_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool closed_ = false;
  int drawn_lines_ = 0;

  std::string step_;
  bool in_trial_ = false;
  std::string trial_name_;
  int requests_ = 0;
  int requests_planned_ = 0;
  std::optional<double> ttft_ms_;
  TimePoint trial_start_;
  double trial_estimate_s_ = 0;
  int done_ = 0;
  int total_ = 0;
  double left_after_trial_s_ = 0;
  std::string last_figures_;
  std::thread ticker_;
};

// "45 s", "3 min 20 s", "2 h 05 min".
std::string format_duration(double seconds);
// At most `columns` code points; a cut line ends in "…".
std::string fit_width(const std::string& line, int columns);
// "[#####.....]".
std::string bar(double share, int width);
// The figures of a trial that an operator looks at first: requests, errors, median TTFT and ITL, tokens/s.
std::string trial_figures(const TrialRecord& trial);

}  // namespace crible::study
