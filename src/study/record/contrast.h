// Paired comparison of two configurations on one metric, and the correction over many of them.
// Internal to the analysis.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>

#include "study/record/measurements.h"
#include "study/record/verdict.h"

namespace crible::study {

// Two-sided error rate of the whole family of a study's decisions.
inline constexpr double kFamilyAlpha = 0.05;

// Everything but the family's correction. margin is relative (StudySpec::equivalence_margin).
Contrast compare(const MetricReference& reference, const std::string& a, const std::string& b,
                 const std::map<int, double>& values_a, const std::map<int, double>& values_b,
                 double margin);

// Decisive contrasts of one objective's metric, between `configurations` of them, in a study that
// decides `objectives` metrics. Each is held to 2 * alpha / (configurations * objectives): by the
// union bound, with probability 1 - alpha over the whole study, no configuration that is not
// strictly the best is called a winner (it would have to beat, one-sided, a rival at least as good),
// and no best one is shut out of the contenders. Holm over all pairs would promise more than
// verdicts say, at the price of half the power with five blocks.
void hold_to_winner_family(std::span<Contrast* const> contrasts, int configurations, int objectives);

// Holm's correction over descriptive contrasts of one metric.
void correct_by_holm(std::span<Contrast* const> family);

// +1 when a is better than b by the contrast's point estimate, -1 when b is, 0 when level.
int better_side(const Contrast& contrast, Direction direction);

// How many blocks would decide the contrast, or show equivalence, if mean and spread stayed as they
// are; nothing when that takes more than 1000.
std::optional<int64_t> blocks_needed(const Contrast& contrast, double margin);

}  // namespace crible::study
