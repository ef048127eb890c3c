#include "ops/rms_norm/rms_norm_cuda.h"

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using RmsNormCuda = GpuTest;

TEST_F(RmsNormCuda, AgreesWithFloat64) {
  RandomValues random(1);
  for (const int64_t columns : {8, 64, 576, 2048, 4096, 5120, 12288, 16384}) {
    const int64_t rows = random.integer(1, 70), stride = columns + 8 * random.integer(0, 3);
    const Bf16s x = random_bf16(random, rows * stride, 3.0f), weight = random_bf16(random, columns);
    std::vector<int32_t> order;
    for (int64_t r = 0; r < rows; ++r) order.push_back(static_cast<int32_t>(random.integer(0, rows - 1)));
    const auto x_device = to_device(x), weight_device = to_device(weight);
    const auto order_device = to_device(order);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(rows * columns));
    constexpr float kEpsilon = 1e-5f;
    rms_norm(stream(), {.x = x_device.data(),
                        .x_stride = stride,
                        .row_indices = order_device.data(),
                        .out = out.data(),
                        .out_stride = columns,
                        .weight = weight_device.data(),
                        .rows = rows,
                        .columns = columns,
                        .epsilon = kEpsilon});
    finish();
    std::vector<double> reference;
    for (int64_t r = 0; r < rows; ++r) {
      const __nv_bfloat16* row = &x[static_cast<size_t>(order[static_cast<size_t>(r)] * stride)];
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += exact(row[c]) * exact(row[c]);
      const double scale = 1 / std::sqrt(sum / static_cast<double>(columns) + static_cast<double>(kEpsilon));
      for (int64_t c = 0; c < columns; ++c) {
        reference.push_back(exact(row[c]) * scale * exact(weight[static_cast<size_t>(c)]));
      }
    }
    // One rounding to BF16, and float32 inside.
    expect_each_near(out.host(), reference, kBf16Epsilon, 1e-7);
  }
}

}  // namespace
}  // namespace crible::cuda
