#include "ops/exponential.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ops/half.h"
#include "ops/random_values.h"

namespace crible {
namespace {

TEST(Exponential, IsWithinTwoUnitsInTheLastPlace) {
  RandomValues random(1);
  for (int i = 0; i < 200000; ++i) {
    const float x = static_cast<float>(random.uniform() * 175.0 - 87.0);
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_LE(std::abs(static_cast<double>(exponential(x)) - exact), 2.0 * 0x1p-23 * exact) << x;
  }
}

TEST(Exponential, HoldsAtTheEdges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-0.0f), 1.0f);
  EXPECT_EQ(exponential(-kInfinity), 0.0f);
  EXPECT_EQ(exponential(-1e30f), 0.0f);
  EXPECT_EQ(exponential(kInfinity), kInfinity);
  EXPECT_EQ(exponential(1e30f), kInfinity);
  EXPECT_TRUE(std::isfinite(exponential(88.72f)));
  EXPECT_GT(exponential(-87.3f), 0.0f);
  EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

// Every one of the 65,536 half floats survives the way to float32 and back.
TEST(Half, RoundTripsEveryValue) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = half_to_float(static_cast<uint16_t>(h));
    const bool nan = (h & 0x7C00u) == 0x7C00u && (h & 0x3FFu) != 0;
    EXPECT_EQ(std::isnan(f), nan);
    if (!nan) {
      EXPECT_EQ(float_to_half(f), h);
    }
  }
}

// Against the definition: the nearest of the two half floats around x, even mantissa on a tie.
TEST(Half, RoundsToNearestEven) {
  RandomValues random(2);
  for (int i = 0; i < 200000; ++i) {
    const uint16_t low = static_cast<uint16_t>(random.integer(0, 0x7BFE));  // finite, with a finite successor
    const double a = static_cast<double>(half_to_float(low));
    const double b = static_cast<double>(half_to_float(static_cast<uint16_t>(low + 1)));
    const int64_t eighth = random.integer(0, 8);
    const float x = static_cast<float>(a + (b - a) * static_cast<double>(eighth) / 8.0);  // exact in float32
    const uint16_t expected = static_cast<uint16_t>(eighth < 4 || (eighth == 4 && low % 2 == 0) ? low : low + 1);
    ASSERT_EQ(float_to_half(x), expected) << x;
    ASSERT_EQ(float_to_half(-x), expected | 0x8000u) << x;
  }
  EXPECT_EQ(float_to_half(65519.0f), 0x7BFF);
  EXPECT_EQ(float_to_half(65520.0f), 0x7C00);
  EXPECT_EQ(float_to_half(1e-10f), 0);
}

}  // namespace
}  // namespace crible
