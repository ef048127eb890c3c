#include "ops/silu_mul/silu_mul_cuda.h"

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using SiluMulCuda = GpuTest;

TEST_F(SiluMulCuda, AgreesWithFloat64) {
  RandomValues random(1);
  for (const int64_t columns : {8, 1536, 2056, 12288}) {
    const int64_t rows = random.integer(1, 40);
    Bf16s gate_up = random_bf16(random, rows * 2 * columns, 4.0f);
    gate_up[0] = __float2bfloat16_rn(-200.0f);  // its exponential overflows
    const auto input = to_device(gate_up);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(rows * columns));
    silu_mul(stream(), {.gate_up = input.data(), .out = out.data(), .rows = rows, .columns = columns});
    finish();
    std::vector<double> reference;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const double gate = exact(gate_up[static_cast<size_t>(r * 2 * columns + c)]);
        reference.push_back(gate / (1 + std::exp(-gate)) *
                            exact(gate_up[static_cast<size_t>(r * 2 * columns + columns + c)]));
      }
    }
    // One rounding, and the fast exponential's few units in float32.
    expect_each_near(out.host(), reference, kBf16Epsilon * 1.01, 1e-30);
  }
}

}  // namespace
}  // namespace crible::cuda
