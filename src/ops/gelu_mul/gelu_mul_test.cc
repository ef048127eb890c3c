#include "ops/gelu_mul/gelu_mul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "ops/available_isas.h"
#include "ops/random_values.h"

namespace crible {
namespace {

std::vector<float> run(CpuIsa isa, int threads, const std::vector<float>& gate_up, int64_t rows, int64_t columns) {
  Stream stream = Stream::create_cpu(threads, isa).value();
  std::vector<float> out(static_cast<size_t>(rows * columns), std::numeric_limits<float>::quiet_NaN());
  gelu_mul(stream, {gate_up.data(), 2 * columns, out.data(), columns, rows, columns});
  return out;
}

// x/2·(1 + tanh(u)), u = √(2/π)·(x + 0.044715·x³), with 1 + tanh(u) = 2 / (1 + e^-2u).
double exact_gelu(double x, double* y) {
  *y = 2.0 * std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return x / (1.0 + std::exp(-*y));
}

TEST(GeluMul, AgreesWithFloat64AndAcrossInstructionSets) {
  RandomValues random(1);
  for (int64_t columns : {1, 7, 8, 61, 2048}) {
    const int64_t rows = random.integer(1, 20);
    const std::vector<float> x = random.normals(rows * 2 * columns, 3.0f);
    const std::vector<float> scalar = run(CpuIsa::kScalar, 1, x, rows, columns);
    for (int64_t i = 0; i < rows * columns; ++i) {
      const double gate = static_cast<double>(x[i / columns * 2 * columns + i % columns]);
      const double up = static_cast<double>(x[i / columns * 2 * columns + columns + i % columns]);
      double y = 0;
      const double exact = exact_gelu(gate, &y) * up;
      // y is off by five roundings (two constants', three operations'), and the exponential by as much times |y|;
      // then two units for itself and four roundings. Results below the normal range may vanish.
      const double bound = 0x1p-24 * std::abs(exact) * (5.0 * std::abs(y) + 8.0) + 1e-30;
      ASSERT_LE(std::abs(static_cast<double>(scalar[i]) - exact), bound) << gate;
    }
    for (CpuIsa isa : available_isas()) {
      const std::vector<float> out = run(isa, 3, x, rows, columns);
      EXPECT_EQ(0, std::memcmp(out.data(), scalar.data(), out.size() * sizeof(float))) << cpu_isa_name(isa);
    }
  }
}

TEST(GeluMul, FarGatesSaturateAndNanStays) {
  for (CpuIsa isa : available_isas()) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> out = run(isa, 1, {200.0f, -200.0f, nan, 3.0f, 3.0f, 3.0f}, 1, 3);
    EXPECT_EQ(out[0], 600.0f);
    EXPECT_EQ(out[1], 0.0f);
    EXPECT_TRUE(std::isnan(out[2]));
  }
}

}  // namespace
}  // namespace crible
