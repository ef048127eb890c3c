#include "ops/rope/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace crible {
namespace {

constexpr double kTurn = 2.0 * std::numbers::pi;

// The (fractional) pair that makes `rotations` turns within the context.
double pair_of_rotations(double rotations, int64_t rotary_size, double base, int64_t context) {
  return static_cast<double>(rotary_size) * std::log(static_cast<double>(context) / (rotations * kTurn)) /
         (2.0 * std::log(base));
}

}  // namespace

RopeFrequencies rope_frequencies(int64_t rotary_size, double base) {
  RopeFrequencies result;
  for (int64_t i = 0; i < rotary_size; i += 2) {
    result.inverse.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(rotary_size)));
  }
  return result;
}

RopeFrequencies linear_rope_frequencies(int64_t rotary_size, double base, double factor) {
  RopeFrequencies result = rope_frequencies(rotary_size, base);
  for (double& f : result.inverse) f /= factor;
  return result;
}

RopeFrequencies llama3_rope_frequencies(int64_t rotary_size, double base, const Llama3Rope& scaling) {
  RopeFrequencies result = rope_frequencies(rotary_size, base);
  for (double& f : result.inverse) {
    const double rotations = static_cast<double>(scaling.original_context) * f / kTurn;
    const double kept = std::clamp((rotations - scaling.low_frequency_factor) /
                                       (scaling.high_frequency_factor - scaling.low_frequency_factor),
                                   0.0, 1.0);
    f = kept * f + (1.0 - kept) * f / scaling.factor;
  }
  return result;
}

RopeFrequencies yarn_rope_frequencies(int64_t rotary_size, double base, const YarnRope& scaling) {
  RopeFrequencies result = rope_frequencies(rotary_size, base);
  double low = pair_of_rotations(scaling.beta_fast, rotary_size, base, scaling.original_context);
  double high = pair_of_rotations(scaling.beta_slow, rotary_size, base, scaling.original_context);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary_size - 1));
  const double width = low == high ? 0.001 : high - low;  // a step where there is no room for a ramp
  for (size_t i = 0; i < result.inverse.size(); ++i) {
    const double divided = std::clamp((static_cast<double>(i) - low) / width, 0.0, 1.0);
    double& f = result.inverse[i];
    f = (1.0 - divided) * f + divided * f / scaling.factor;
  }
  const double usual = scaling.factor <= 1.0 ? 1.0 : 0.1 * std::log(scaling.factor) + 1.0;
  result.attention_factor = scaling.attention_factor.value_or(usual);
  return result;
}

RopeFrequencies longrope_frequencies(double base, std::span<const double> factors, int64_t context,
                                     int64_t original_context) {
  RopeFrequencies result = rope_frequencies(2 * static_cast<int64_t>(factors.size()), base);
  for (size_t i = 0; i < factors.size(); ++i) result.inverse[i] /= factors[i];
  const double stretch = static_cast<double>(context) / static_cast<double>(original_context);
  if (stretch > 1.0) {
    result.attention_factor = std::sqrt(1.0 + std::log(stretch) / std::log(static_cast<double>(original_context)));
  }
  return result;
}

}  // namespace crible
