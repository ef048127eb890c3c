#include "study/record/statistics.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace crible::study {
namespace {

using boost::math::binomial_distribution;
using boost::math::students_t;

// Block means that differ by less than this are the same number up to rounding.
constexpr double kRounding = 1e-12;

double sum_of_squares(std::span<const double> samples, double centre) {
  double sum = 0;
  for (const double x : samples) sum += (x - centre) * (x - centre);
  return sum;
}

// What is left of `values` when `regressor` (both centred) is projected out; regressor's own
// remainder is 0 everywhere when it is a multiple of the other.
std::vector<double> project_out(std::span<const double> values, std::span<const double> regressor) {
  const double norm = sum_of_squares(regressor, 0);
  std::vector<double> rest(values.begin(), values.end());
  if (norm == 0) return rest;
  const double factor =
      std::inner_product(values.begin(), values.end(), regressor.begin(), 0.0) / norm;
  for (size_t i = 0; i < rest.size(); ++i) rest[i] -= factor * regressor[i];
  return rest;
}

std::vector<double> centred(std::span<const double> values) {
  const double centre = mean(values);
  std::vector<double> rest(values.begin(), values.end());
  for (double& x : rest) x -= centre;
  return rest;
}

}  // namespace

double mean(std::span<const double> samples) {
  CHECK(!samples.empty());
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

double sample_variance(std::span<const double> samples) {
  CHECK(samples.size() >= 2);
  return sum_of_squares(samples, mean(samples)) / static_cast<double>(samples.size() - 1);
}

double percentile(std::span<const double> samples, double q) {
  CHECK(!samples.empty() && q >= 0 && q <= 1, "{} samples, q {}", samples.size(), q);
  std::vector<double> sorted(samples.begin(), samples.end());
  std::ranges::sort(sorted);
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = position - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

int64_t samples_needed(double q, double confidence) {
  CHECK(q > 0 && q < 1 && confidence > 0 && confidence < 1, "q {}, confidence {}", q, confidence);
  return static_cast<int64_t>(std::ceil(std::log1p(-confidence) / std::log(q)));
}

std::optional<double> supported_percentile(std::span<const double> samples, double q) {
  const int64_t needed = samples_needed(std::max(q, 1 - q), 0.95);
  if (static_cast<int64_t>(samples.size()) < needed) return std::nullopt;
  return percentile(samples, q);
}

double rate_lower_bound(int64_t events, int64_t trials, double confidence) {
  CHECK(trials > 0 && events >= 0 && events <= trials, "{} of {}", events, trials);
  if (events == 0) return 0;
  return binomial_distribution<>::find_lower_bound_on_p(
      static_cast<double>(trials), static_cast<double>(events), 1 - confidence);
}

double rate_upper_bound(int64_t events, int64_t trials, double confidence) {
  CHECK(trials > 0 && events >= 0 && events <= trials, "{} of {}", events, trials);
  if (events == trials) return 1;
  return binomial_distribution<>::find_upper_bound_on_p(
      static_cast<double>(trials), static_cast<double>(events), 1 - confidence);
}

Interval clopper_pearson(int64_t events, int64_t trials, double confidence) {
  const double one_sided = (1 + confidence) / 2;
  return {rate_lower_bound(events, trials, one_sided), rate_upper_bound(events, trials, one_sided)};
}

double student_t_quantile(double p, double degrees_of_freedom) {
  return boost::math::quantile(students_t(degrees_of_freedom), p);
}

std::optional<Interval> t_interval(std::span<const double> values, double confidence) {
  if (values.size() < 2) return std::nullopt;
  const auto n = static_cast<double>(values.size());
  const double centre = mean(values);
  const double half =
      student_t_quantile((1 + confidence) / 2, n - 1) * std::sqrt(sample_variance(values) / n);
  return Interval{centre - half, centre + half};
}

std::optional<double> t_test_p(std::span<const double> values) {
  if (values.size() < 2) return std::nullopt;
  const auto n = static_cast<double>(values.size());
  const double centre = mean(values);
  if (std::abs(centre) < kRounding) return 1.0;
  const double standard_error = std::sqrt(sample_variance(values) / n);
  if (standard_error < kRounding * std::abs(centre)) return 0.0;
  const double t = std::abs(centre) / standard_error;
  return 2 * boost::math::cdf(boost::math::complement(students_t(n - 1), t));
}

HolmResult holm(std::span<const double> p_values, double alpha) {
  const size_t m = p_values.size();
  std::vector<size_t> order(m);
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return p_values[a] < p_values[b]; });
  HolmResult result{std::vector<double>(m), std::vector<double>(m)};
  double running_max = 0;
  double share = alpha;
  for (size_t rank = 0; rank < m; ++rank) {
    const auto hypotheses_left = static_cast<double>(m - rank);
    // The procedure stops at the first test that fails: the rest stay at that step's share.
    if (running_max <= alpha) share = alpha / hypotheses_left;
    running_max = std::max(running_max, std::min(1.0, p_values[order[rank]] * hypotheses_left));
    result.adjusted_p[order[rank]] = running_max;
    result.alpha_share[order[rank]] = share;
  }
  return result;
}

std::optional<Slope> least_squares_slope(std::span<const double> x, std::span<const double> y,
                                         std::span<const double> covariate, double confidence) {
  CHECK(x.size() == y.size() && (covariate.empty() || covariate.size() == x.size()));
  const double parameters = covariate.empty() ? 2 : 3;
  const double freedom = static_cast<double>(x.size()) - parameters;
  if (freedom < 1) return std::nullopt;
  // Frisch, Waugh and Lovell: regress what the covariate leaves of y on what it leaves of x.
  std::vector<double> x_rest = centred(x);
  std::vector<double> y_rest = centred(y);
  const double x_norm_before = sum_of_squares(x_rest, 0);
  if (!covariate.empty()) {
    const std::vector<double> regressor = centred(covariate);
    x_rest = project_out(x_rest, regressor);
    y_rest = project_out(y_rest, regressor);
  }
  const double x_norm = sum_of_squares(x_rest, 0);
  if (!(x_norm > kRounding * x_norm_before)) return std::nullopt;
  const double slope =
      std::inner_product(x_rest.begin(), x_rest.end(), y_rest.begin(), 0.0) / x_norm;
  const std::vector<double> residuals = project_out(y_rest, x_rest);
  const double standard_error = std::sqrt(sum_of_squares(residuals, 0) / freedom / x_norm);
  const double half = student_t_quantile((1 + confidence) / 2, freedom) * standard_error;
  return Slope{slope, {slope - half, slope + half}};
}

}  // namespace crible::study
