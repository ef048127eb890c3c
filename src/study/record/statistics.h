// Statistics of the study: pure functions over samples, nothing random. Every answer that the
// sample cannot support is an absent value, not a guess.
// Levels are two-sided confidence levels (0.95) unless a name says one-sided.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace crible::study {

struct Interval {
  double low = 0;
  double high = 0;

  bool contains(double x) const { return low <= x && x <= high; }
  bool operator==(const Interval&) const = default;
};

// --- Location and percentiles. Samples need not be sorted; empty ones are a CHECK.
double mean(std::span<const double> samples);
double sample_variance(std::span<const double> samples);  // n - 1; needs n >= 2
// Linear interpolation between order statistics (Hyndman and Fan's type 7). q in [0, 1].
double percentile(std::span<const double> samples, double q);
// The least n for which the largest of n samples bounds the q-quantile from above with the
// one-sided confidence: ceil(log(1 - confidence) / log(q)). q = 0.99: 299 at 95%, 459 at 99%.
int64_t samples_needed(double q, double confidence);
// percentile(q), or nothing when there are fewer than samples_needed(max(q, 1 - q), 0.95) samples
// (for q = 0.5: 5).
std::optional<double> supported_percentile(std::span<const double> samples, double q);

// --- Rates.
Interval clopper_pearson(int64_t events, int64_t trials, double confidence);
// Exact one-sided upper bound of the rate: 0 of 65 at 95% gives 0.045.
double rate_upper_bound(int64_t events, int64_t trials, double confidence);
double rate_lower_bound(int64_t events, int64_t trials, double confidence);

// --- Means of few values (blocks).
double student_t_quantile(double p, double degrees_of_freedom);
// Mean with Student's t interval; nothing for fewer than two values.
std::optional<Interval> t_interval(std::span<const double> values, double confidence);
// Why Student's t and not a bootstrap over blocks: with five blocks the percentile bootstrap calls
// twice as many false differences as its level says, while t holds it, heavy tails included
// (statistics_test.cc simulates both). The difference of two equal configurations is symmetric, the
// case in which t errs on the safe side.
//
// Two-sided p value of mean == 0 by Student's t; 1 when all values are 0, 0 when they are all
// equal and not 0. Nothing for fewer than two values.
std::optional<double> t_test_p(std::span<const double> values);

// --- Family of tests. Holm's step-down: adjusted p values in the order given, and for each test the
// share of alpha that it was held to (alpha / (m - rank); for those after the step that failed, that
// step's), so that an interval at 1 - share excludes "no effect" exactly when adjusted_p <= alpha.
struct HolmResult {
  std::vector<double> adjusted_p;
  std::vector<double> alpha_share;
};
HolmResult holm(std::span<const double> p_values, double alpha);

// --- Slopes.
struct Slope {
  double value = 0;
  Interval interval;
};
// Ordinary least squares of y on x and, if given, on covariate; the slope of x with its t
// interval. Nothing when the design is singular or leaves no degree of freedom.
std::optional<Slope> least_squares_slope(std::span<const double> x, std::span<const double> y,
                                         std::span<const double> covariate, double confidence);

}  // namespace crible::study
