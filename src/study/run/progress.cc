#include "study/run/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "study/record/metrics.h"
#include "study/record/statistics.h"

namespace crible::study {
namespace {

constexpr std::chrono::milliseconds kRedraw{250};
constexpr int kBarWidth = 28;
constexpr int kFallbackColumns = 80;

int terminal_columns(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return kFallbackColumns;
}

std::optional<double> median_of(const TrialMetrics& metrics, std::string_view name) {
  const auto found = metrics.samples.find(name);
  if (found == metrics.samples.end() || found->second.empty()) return std::nullopt;
  return percentile(found->second, 0.5);
}

}  // namespace

std::string format_duration(double seconds) {
  const auto total = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
}

std::string fit_width(const std::string& line, int columns) {
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  if (std::ranges::count_if(line, starts_character) <= columns) return line;
  std::string cut;
  int used = 0;
  for (const char c : line) {
    if (starts_character(c) && ++used >= columns) break;
    cut += c;
  }
  return cut + "…";
}

std::string bar(double share, int width) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * width));
  return "[" + std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(width - full), '.') + "]";
}

std::string trial_figures(const TrialRecord& trial) {
  const TrialMetrics metrics = compute_metrics(trial, {});
  std::string text = fmt::format("{} requests", metrics.requests);
  if (metrics.failed_requests > 0) text += fmt::format(", {} failed", metrics.failed_requests);
  const auto add = [&](std::string_view name, std::string_view label, std::string_view unit) {
    if (const auto value = median_of(metrics, name))
      text += fmt::format(" · {} {:.4g} {}", label, *value, unit);
  };
  if (trial.scenario == "kv_cache") {
    add("ttft_miss_ms", "TTFT MISS", "ms");
    add("ttft_hit_ms", "HIT", "ms");
    if (!metrics.samples.contains("ttft_hit_ms")) add("ttft_repeat_ms", "repeat (no cache)", "ms");
  } else {
    add("ttft_ms", "TTFT", "ms");
  }
  add("itl_ms", "ITL", "ms");
  add("output_tokens_per_s", "output", "tokens/s");
  return text;
}

Progress::Progress(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {
  if (terminal_) ticker_ = std::thread([this] { tick(); });
}

Progress::~Progress() {
  close();
}

void Progress::close() {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) erase();
    closed_ = true;
  }
  wake_.notify_all();
  if (ticker_.joinable()) ticker_.join();
}

void Progress::tick() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kRedraw, [this] { return closed_; })) draw();
}

void Progress::say(const std::string& line) {
  const std::lock_guard lock(mutex_);
  erase();
  fmt::print(out_, "{}\n", line);
  draw();
  std::fflush(out_);
}

void Progress::step(const std::string& what) {
  const std::lock_guard lock(mutex_);
  step_ = what;
  in_trial_ = false;
  draw();
}

void Progress::set_total(int trials_done, int trials_total, double left_s) {
  const std::lock_guard lock(mutex_);
  done_ = trials_done;
  total_ = trials_total;
  left_after_trial_s_ = left_s;
  draw();
}

void Progress::trial_started(int block, int blocks, const std::string& configuration,
                             const std::string& scenario, int requests_planned, double estimate_s) {
  const std::lock_guard lock(mutex_);
  in_trial_ = true;
  trial_name_ = fmt::format("block {}/{} · {} · {}", block + 1, blocks, configuration, scenario);
  requests_ = 0;
  requests_planned_ = requests_planned;
  ttft_ms_.reset();
  trial_start_ = now();
  trial_estimate_s_ = estimate_s;
  left_after_trial_s_ = std::max(0.0, left_after_trial_s_ - estimate_s);
  draw();
}

void Progress::request_ended(int requests, std::optional<double> ttft_ms) {
  const std::lock_guard lock(mutex_);
  requests_ = requests;
  if (ttft_ms) ttft_ms_ = ttft_ms;
}

void Progress::trial_ended(const TrialRecord& trial, double left_s) {
  const std::lock_guard lock(mutex_);
  in_trial_ = false;
  ++done_;
  left_after_trial_s_ = left_s;
  last_figures_ = fmt::format("{}: {}", trial.id, trial_figures(trial));
  if (terminal_) return draw();
  fmt::print(out_, "[{}/{}] {}{} · {} left\n", done_, total_, last_figures_,
             trial.validity.valid ? "" : " · NOT VALID: " + trial.validity.reasons.front(),
             format_duration(left_s));
  std::fflush(out_);
}

double Progress::left_s() const {
  const double in_trial = in_trial_ ? std::max(0.0, trial_estimate_s_ - to_seconds(now() - trial_start_)) : 0;
  return in_trial + left_after_trial_s_;
}

std::vector<std::string> Progress::block_lines() const {
  std::vector<std::string> lines;
  if (total_ > 0) {
    const double within = in_trial_ && requests_planned_ > 0 ? double(requests_) / requests_planned_ : 0;
    lines.push_back(fmt::format("{} {}/{} trials · {} left", bar((done_ + within) / total_, kBarWidth), done_,
                                total_, format_duration(left_s())));
  }
  if (in_trial_) {
    std::string line = fmt::format("{} · request {}/{}", trial_name_, requests_, requests_planned_);
    if (ttft_ms_) line += fmt::format(" · last TTFT {:.1f} ms", *ttft_ms_);
    lines.push_back(std::move(line));
  } else if (!step_.empty()) {
    lines.push_back(step_ + " …");
  }
  if (!last_figures_.empty()) lines.push_back("last: " + last_figures_);
  return lines;
}

void Progress::erase() {
  if (!terminal_ || drawn_lines_ == 0) return;
  // Up to the block's first line, then clear to the end of the screen (ECMA-48).
  fmt::print(out_, "\x1b[{}A\x1b[J", drawn_lines_);
  drawn_lines_ = 0;
}

void Progress::draw() {
  if (!terminal_ || closed_) return;
  erase();
  const int columns = terminal_columns(out_);
  for (const std::string& line : block_lines()) {
    fmt::print(out_, "{}\n", fit_width(line, columns - 1));
    ++drawn_lines_;
  }
  std::fflush(out_);
}

}  // namespace crible::study
