#include "ops/add/add_cuda.h"

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using AddCuda = GpuTest;

TEST_F(AddCuda, IsTheRoundedSumAndTouchesNothingBeyond) {
  RandomValues random(1);
  for (const int64_t count : {8, 1024, 1032, 37 * 4096}) {
    const Bf16s x = random_bf16(random, count);
    Bf16s out = random_bf16(random, count, 10.0f);
    std::vector<double> reference;
    for (size_t i = 0; i < x.size(); ++i) reference.push_back(exact(x[i]) + exact(out[i]));
    const Bf16s beyond = random_bf16(random, 8);
    out.insert(out.end(), beyond.begin(), beyond.end());
    const auto x_device = to_device(x);
    const auto out_device = to_device(out);
    add(stream(), x_device.data(), count, out_device.data());
    finish();
    Bf16s sums = out_device.host();
    for (size_t i = 0; i < beyond.size(); ++i) {
      EXPECT_EQ(exact(sums[static_cast<size_t>(count) + i]), exact(beyond[i]));
    }
    sums.resize(static_cast<size_t>(count));
    // One rounding to BF16, and one to float32 where the exponents are far apart.
    expect_each_near(sums, reference, kBf16Epsilon + 0x1p-23, 0);
  }
}

}  // namespace
}  // namespace crible::cuda
