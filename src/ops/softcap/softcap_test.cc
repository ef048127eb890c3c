#include "ops/softcap/softcap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ops/available_isas.h"
#include "ops/random_values.h"

namespace crible {
namespace {

std::vector<float> run(CpuIsa isa, int threads, std::vector<float> x, int64_t rows, float cap) {
  Stream stream = Stream::create_cpu(threads, isa).value();
  softcap(stream, {x.data(), rows, static_cast<int64_t>(x.size()) / rows, cap});
  return x;
}

TEST(Softcap, AgreesWithFloat64AndAcrossInstructionSets) {
  RandomValues random(1);
  for (const float cap : {1.0f, 30.0f, 50.0f}) {
    for (const int64_t columns : {1, 7, 8, 61, 9001}) {
      const int64_t rows = random.integer(1, 5);
      const std::vector<float> x = random.normals(rows * columns, 2 * cap);
      const std::vector<float> scalar = run(CpuIsa::kScalar, 1, x, rows, cap);
      for (size_t i = 0; i < x.size(); ++i) {
        const double exact = static_cast<double>(cap) * std::tanh(static_cast<double>(x[i]) / static_cast<double>(cap));
        // Three units for the tangent; a division, which the tangent never enlarges, and a product.
        ASSERT_LE(std::abs(static_cast<double>(scalar[i]) - exact), 4 * 0x1p-23 * std::abs(exact)) << x[i];
        ASSERT_LE(std::abs(scalar[i]), cap);
      }
      for (CpuIsa isa : available_isas()) {
        const std::vector<float> out = run(isa, 3, x, rows, cap);
        EXPECT_EQ(0, std::memcmp(out.data(), scalar.data(), out.size() * sizeof(float))) << cpu_isa_name(isa);
      }
    }
  }
}

}  // namespace
}  // namespace crible
