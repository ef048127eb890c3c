// eˣ in float32 by a fixed sequence of operations, so that scalar and vector kernels give the same
// bits: x = n·ln 2 + r, a polynomial in r, then two multiplications by powers of two. Within 2 units
// in the last place for results in float32's normal range; below it 0, above it infinity, NaN stays NaN.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ops/exponential_constants.h"

namespace crible {

inline float exponential(float x) {
  using namespace exponential_constants;
  if (std::isnan(x)) return x;
  if (x < kLowest) return 0.0f;
  if (x > kHighest) return std::numeric_limits<float>::infinity();
  const float n = std::nearbyint(x * kInverseLn2);
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = kC7;
  p = std::fma(p, r, kC6);
  p = std::fma(p, r, kC5);
  p = std::fma(p, r, kC4);
  p = std::fma(p, r, kC3);
  p = std::fma(p, r, kC2);
  p = std::fma(p, r, 1.0f);
  p = std::fma(p, r, 1.0f);
  const int32_t exponent = static_cast<int32_t>(n);
  const int32_t first = exponent >> 1;
  const int32_t second = exponent - first;
  const auto power = [](int32_t e) { return std::bit_cast<float>((e + 127) << 23); };
  return p * power(first) * power(second);
}

}  // namespace crible
