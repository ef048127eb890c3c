#include "ops/fill_random/fill_random_cuda.h"

#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using FillRandomCuda = GpuTest;

struct Moments {
  double mean, deviation;
};
Moments moments(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) {
    sum += v;
    squares += v * v;
  }
  const double n = static_cast<double>(values.size());
  return {sum / n, std::sqrt(squares / n - sum / n * sum / n)};
}

TEST_F(FillRandomCuda, HasTheMomentsAskedForAndDependsOnTheSeedAlone) {
  constexpr size_t kCount = 3'000'001;
  const DeviceArray<__nv_bfloat16> first(kCount), again(kCount), other(kCount);
  fill_random(stream(), first.data(), kCount, 7, 0.5f, 2.0f);
  fill_random(stream(), again.data(), kCount, 7, 0.5f, 2.0f);
  fill_random(stream(), other.data(), kCount, 8, 0.5f, 2.0f);
  finish();
  const std::vector<double> values = to_doubles(first.host());
  const Moments m = moments(values);
  // Five standard errors of the mean, 2 / √n; and about the same for the deviation.
  EXPECT_NEAR(m.mean, 0.5, 5 * 2.0 / std::sqrt(static_cast<double>(kCount)) + 0.001);
  EXPECT_NEAR(m.deviation, 2.0, 0.01);
  EXPECT_EQ(values, to_doubles(again.host()));
  EXPECT_NE(values, to_doubles(other.host()));
}

TEST_F(FillRandomCuda, Fp8HasItsDeviationAndNoNaN) {
  constexpr size_t kCount = 1'000'000;
  const DeviceArray<uint8_t> out(kCount);
  fill_random_fp8(stream(), out.data(), kCount, 7);
  finish();
  std::vector<double> values;
  for (const uint8_t byte : out.host()) {
    __nv_fp8_e4m3 value;
    value.__x = byte;
    values.push_back(static_cast<double>(static_cast<float>(value)));
  }
  const Moments m = moments(values);
  EXPECT_NEAR(m.mean, 0.0, 1.0);
  EXPECT_NEAR(m.deviation, static_cast<double>(kFp8FillDeviation), 2.0);
}

}  // namespace
}  // namespace crible::cuda
