// Turns values into worded, formatted text of one language. A missing value is a dash, never a
// guess; a number carries the trials it came from as a note.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "report/document.h"
#include "report/findings.h"
#include "report/number_format.h"
#include "report/wording.h"
#include "study/record/study_result.h"

namespace crible::report {

class Scribe {
 public:
  explicit Scribe(Language language) : language_(language), numbers_(language) {}

  const NumberFormat& numbers() const { return numbers_; }
  Language language() const { return language_; }

  // The phrase with {0}, {1}, ... replaced.
  std::string say(Phrase phrase, std::initializer_list<std::string> arguments = {}) const;
  // The same with styled arguments.
  Inline compose(Phrase phrase, std::initializer_list<Inline> arguments) const;

  std::string metric_label(const std::string& metric) const;        // "TTFT (HIT)"
  std::string metric_unit(const std::string& metric) const;         // "ms"; "" for ratios and shares
  std::string metric_column(const std::string& metric) const;       // "TTFT (HIT), ms"
  std::string objective_label(const std::string& objective) const;  // "Conversational agents"
  std::string statistic_label(const std::string& statistic) const;
  std::string reference_label(const study::MetricReference& reference) const;
  std::string status_label(study::ConfigurationStatus status) const;
  std::string cause_label(study::FailureCause cause) const;
  std::string phase_label(study::StudyPhase phase) const;
  std::string yes_no(const std::optional<std::string>& setting) const;  // "✓", "✗", "—"

  std::string bare_amount(const std::string& metric, double value) const;
  std::string amount(const std::string& metric, double value) const;  // with unit
  std::string amount(const std::string& metric, std::optional<double> value) const;
  std::string bare_range(const std::string& metric, const study::Interval& interval) const;
  // "908 [889 – 931]"; a dash when not measured.
  Inline estimate(const std::string& metric, const study::MetricSummary* summary, bool with_unit) const;
  // "−54% [−57% – −50%]", or the difference in the metric's unit.
  Inline effect(const study::MetricReference& reference, const Comparison& comparison) const;
  // "n = 30; trials b0–b4/chunked_only_safe/kv_cache".
  std::string source_note(const study::MetricSummary& summary) const;
  std::string trial_ranges(std::span<const std::string> trial_ids) const;
  // "a", "a and b", "a, b and c".
  Inline enumerate(const std::vector<Inline>& items) const;

 private:
  Language language_;
  NumberFormat numbers_;
};

Inline code_list(const Scribe& scribe, const std::vector<std::string>& names);
inline constexpr const char* kNotMeasured = "\u2014";

}  // namespace crible::report
