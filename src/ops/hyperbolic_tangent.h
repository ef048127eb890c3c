// tanh in float32 by a fixed sequence of operations, the same bits in scalar and vector kernels: near
// zero x + x³·P(x²), elsewhere 1 - 2/(e^2|x| + 1) with exponential.h. Within 3 units in the last place;
// ±1 at infinity, NaN stays NaN.
#pragma once

#include <cmath>

#include "ops/exponential.h"
#include "ops/hyperbolic_tangent_constants.h"

namespace crible {

inline float hyperbolic_tangent(float x) {
  using namespace hyperbolic_tangent_constants;
  const float magnitude = std::fabs(x);
  if (magnitude < kPolynomialBelow) {
    const float square = x * x;
    float p = kP4;
    p = std::fma(p, square, kP3);
    p = std::fma(p, square, kP2);
    p = std::fma(p, square, kP1);
    p = std::fma(p, square, kP0);
    return std::fma(x * square, p, x);
  }
  return std::copysign(1.0f - 2.0f / (exponential(2.0f * magnitude) + 1.0f), x);
}

}  // namespace crible
