#include "ops/hyperbolic_tangent.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "ops/random_values.h"

namespace crible {
namespace {

TEST(HyperbolicTangent, IsWithinThreeUnitsInTheLastPlaceAndOdd) {
  RandomValues random(1);
  for (int i = 0; i < 200000; ++i) {
    const double exponent = random.uniform() * 28.0 - 24.0;  // magnitudes from 2^-24 to 16
    const float x = static_cast<float>(std::exp2(exponent));
    const double exact = std::tanh(static_cast<double>(x));
    ASSERT_LE(std::abs(static_cast<double>(hyperbolic_tangent(x)) - exact), 3.0 * 0x1p-23 * exact) << x;
    ASSERT_EQ(hyperbolic_tangent(-x), -hyperbolic_tangent(x));
  }
}

TEST(HyperbolicTangent, HoldsAtTheEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(hyperbolic_tangent(0.0f), 0.0f);
  EXPECT_EQ(hyperbolic_tangent(kInfinity), 1.0f);
  EXPECT_EQ(hyperbolic_tangent(-kInfinity), -1.0f);
  EXPECT_EQ(hyperbolic_tangent(1e30f), 1.0f);
  EXPECT_TRUE(std::isnan(hyperbolic_tangent(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace crible
