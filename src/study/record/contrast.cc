#include "study/record/contrast.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"

namespace crible::study {
namespace {

constexpr int64_t kMostBlocks = 1000;
// Two one-sided tests at 5% each: equivalence is read off the 90% interval.
constexpr double kEquivalenceConfidence = 0.90;

// The scale on which pairs are subtracted: logarithms where the metric is positive by nature.
double to_effect_scale(double x, EffectKind kind) {
  return kind == EffectKind::kRatio ? std::log(x) : x;
}

double from_effect_scale(double x, EffectKind kind) {
  return kind == EffectKind::kRatio ? std::exp(x) : x;
}

Interval from_effect_scale(Interval interval, EffectKind kind) {
  return {from_effect_scale(interval.low, kind), from_effect_scale(interval.high, kind)};
}

double centre(const Contrast& contrast) { return to_effect_scale(contrast.effect, contrast.kind); }

// t interval of the paired differences, on the effect scale.
Interval paired_interval(const Contrast& contrast, double confidence) {
  const double n = contrast.blocks;
  const double half =
      student_t_quantile((1 + confidence) / 2, n - 1) * contrast.block_sd / std::sqrt(n);
  return {centre(contrast) - half, centre(contrast) + half};
}

// Largest difference that does not matter, on the effect scale. For differences the margin is
// relative to the size of the values compared.
double margin_on_effect_scale(const Contrast& contrast, double margin) {
  return contrast.kind == EffectKind::kRatio ? std::log1p(margin)
                                             : margin * std::abs(contrast.level);
}

// alpha: two-sided error rate that the contrast is held to.
void apply(Contrast& contrast, double alpha, double adjusted_p) {
  contrast.alpha = alpha;
  contrast.adjusted_p = adjusted_p;
  contrast.decided = adjusted_p <= kFamilyAlpha;
  contrast.simultaneous = from_effect_scale(paired_interval(contrast, 1 - alpha), contrast.kind);
}

}  // namespace

Contrast compare(const MetricReference& reference, const std::string& a, const std::string& b,
                 const std::map<int, double>& values_a, const std::map<int, double>& values_b,
                 double margin) {
  const MetricInfo* metric = find_metric(reference.metric);
  CHECK(metric != nullptr, "{}", reference.metric);
  Contrast contrast;
  contrast.reference = reference;
  contrast.a = a;
  contrast.b = b;
  contrast.kind = metric->scale == MetricScale::kLog ? EffectKind::kRatio : EffectKind::kDifference;
  std::vector<double> differences;
  double sum = 0;
  for (const auto& [block, value_a] : values_a) {
    const auto found = values_b.find(block);
    if (found == values_b.end()) continue;
    const double value_b = found->second;
    if (contrast.kind == EffectKind::kRatio && !(value_a > 0 && value_b > 0)) continue;
    differences.push_back(to_effect_scale(value_a, contrast.kind) -
                          to_effect_scale(value_b, contrast.kind));
    sum += (std::abs(value_a) + std::abs(value_b)) / 2;
  }
  contrast.blocks = static_cast<int>(differences.size());
  if (differences.empty()) return contrast;
  contrast.level = sum / static_cast<double>(differences.size());
  contrast.effect = from_effect_scale(mean(differences), contrast.kind);
  if (differences.size() < 2) return contrast;
  contrast.block_sd = std::sqrt(sample_variance(differences));
  contrast.p = t_test_p(differences);
  contrast.ci95 = from_effect_scale(paired_interval(contrast, 0.95), contrast.kind);
  const Interval narrow = paired_interval(contrast, kEquivalenceConfidence);
  const double limit = margin_on_effect_scale(contrast, margin);
  contrast.equivalent = narrow.low >= -limit && narrow.high <= limit;
  return contrast;
}

void hold_to_winner_family(std::span<Contrast* const> contrasts, int configurations,
                           int objectives) {
  const double alpha = std::min(kFamilyAlpha, 2 * kFamilyAlpha / (configurations * objectives));
  for (Contrast* contrast : contrasts) {
    if (contrast->p) apply(*contrast, alpha, std::min(1.0, *contrast->p * kFamilyAlpha / alpha));
  }
}

void correct_by_holm(std::span<Contrast* const> family) {
  std::vector<Contrast*> tested;
  std::vector<double> p_values;
  for (Contrast* contrast : family) {
    if (!contrast->p) continue;
    tested.push_back(contrast);
    p_values.push_back(*contrast->p);
  }
  const HolmResult corrected = holm(p_values, kFamilyAlpha);
  for (size_t i = 0; i < tested.size(); ++i) {
    apply(*tested[i], corrected.alpha_share[i], corrected.adjusted_p[i]);
  }
}

int better_side(const Contrast& contrast, Direction direction) {
  const double difference = centre(contrast);
  if (difference == 0) return 0;
  const bool a_is_lower = difference < 0;
  return a_is_lower == (direction == Direction::kLowerIsBetter) ? 1 : -1;
}

std::optional<int64_t> blocks_needed(const Contrast& contrast, double margin) {
  if (!contrast.simultaneous || contrast.block_sd == 0) return std::nullopt;
  const double limit = margin_on_effect_scale(contrast, margin);
  const double distance = std::abs(centre(contrast));
  for (int64_t n = contrast.blocks + 1; n <= kMostBlocks; ++n) {
    const double error = contrast.block_sd / std::sqrt(static_cast<double>(n));
    const double freedom = static_cast<double>(n - 1);
    const bool decides = distance > student_t_quantile(1 - contrast.alpha / 2, freedom) * error;
    const bool equates = distance + student_t_quantile(0.95, freedom) * error <= limit;
    if (decides || equates) return n;
  }
  return std::nullopt;
}

}  // namespace crible::study
