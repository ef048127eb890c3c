#include "ops/silu_mul/silu_mul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/available_isas.h"
#include "ops/random_values.h"

namespace crible {
namespace {

std::vector<float> run(CpuIsa isa, int threads, const std::vector<float>& gate_up, int64_t rows, int64_t columns) {
  Stream stream = Stream::create_cpu(threads, isa).value();
  std::vector<float> out(static_cast<size_t>(rows * columns), std::numeric_limits<float>::quiet_NaN());
  silu_mul(stream, {gate_up.data(), 2 * columns, out.data(), columns, rows, columns});
  return out;
}

TEST(SiluMul, AgreesWithFloat64AndAcrossInstructionSets) {
  RandomValues random(1);
  for (int64_t columns : {1, 7, 8, 61, 1536}) {
    const int64_t rows = random.integer(1, 20);
    const std::vector<float> x = random.normals(rows * 2 * columns, 20.0f);
    const std::vector<float> scalar = run(CpuIsa::kScalar, 1, x, rows, columns);
    for (int64_t i = 0; i < rows * columns; ++i) {
      const double gate = static_cast<double>(x[i / columns * 2 * columns + i % columns]);
      const double up = static_cast<double>(x[i / columns * 2 * columns + columns + i % columns]);
      const double exact = gate / (1.0 + std::exp(-gate)) * up;
      // Two units for the exponential, three roundings; results below the normal range may vanish.
      ASSERT_LE(std::abs(static_cast<double>(scalar[i]) - exact), 8 * 0x1p-24 * std::abs(exact) + 1e-30) << gate;
    }
    for (CpuIsa isa : available_isas()) {
      const std::vector<float> out = run(isa, 3, x, rows, columns);
      EXPECT_EQ(0, std::memcmp(out.data(), scalar.data(), out.size() * sizeof(float))) << cpu_isa_name(isa);
    }
  }
}

TEST(SiluMul, FarGatesSaturate) {
  for (CpuIsa isa : available_isas()) {
    const std::vector<float> out = run(isa, 1, {200.0f, -200.0f, 3.0f, 3.0f}, 1, 2);
    EXPECT_EQ(out[0], 600.0f);
    EXPECT_EQ(out[1], 0.0f);
  }
}

}  // namespace
}  // namespace crible
