// Constants of hyperbolic_tangent.h and of its vector form: the polynomial of degree 4 in x² that is
// nearest to (tanh(x)/x - 1)/x² below 0.625 (minimax, by iteratively reweighted least squares); it is off by
// less than 1e-8 of tanh(x).
#pragma once

namespace crible::hyperbolic_tangent_constants {

inline constexpr float kPolynomialBelow = 0.625f;
inline constexpr float kP0 = -0.33333281f, kP1 = 0.133314416f, kP2 = -0.0537397154f, kP3 = 0.0206390861f;
inline constexpr float kP4 = -0.00570498686f;

}  // namespace crible::hyperbolic_tangent_constants
