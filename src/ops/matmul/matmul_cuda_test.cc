#include "ops/matmul/matmul_cuda.h"

#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using MatmulCuda = GpuTest;

TEST_F(MatmulCuda, Bf16AgreesWithFloat64) {
  RandomValues random(1);
  Matmul matmul = Matmul::create().value();
  // The last: more rows than any that is measured.
  for (const ProductSize& s : {ProductSize{1, 64, 576}, ProductSize{7, 160, 256}, ProductSize{33, 576, 576}, ProductSize{100, 256, 1536}, ProductSize{16'400, 64, 64}}) {
    for (const OutputType type : {OutputType::kBf16, OutputType::kFloat}) {
      const Bf16s x = random_bf16(random, s.rows * s.in), w = random_bf16(random, s.out * s.in, 0.1f);
      const auto x_device = to_device(x), w_device = to_device(w);
      const DeviceArray<__nv_bfloat16> narrow(static_cast<size_t>(s.rows * s.out));
      const DeviceArray<float> wide(static_cast<size_t>(s.rows * s.out));
      const bool is_float = type == OutputType::kFloat;
      const MatmulArgs args = {.out_type = type,
                               .x = x_device.data(),
                               .rows = s.rows,
                               .weight = w_device.data(),
                               .out_features = s.out,
                               .in_features = s.in,
                               .out = is_float ? static_cast<void*>(wide.data()) : narrow.data()};
      ASSERT_TRUE(matmul.tune(stream(), args, s.rows));
      ASSERT_TRUE(matmul.run(stream(), args));
      finish();
      const std::vector<double> reference = float64_product(to_doubles(x), to_doubles(w), s);
      const double size = 0.1 * std::sqrt(static_cast<double>(s.in));  // of a typical output
      if (is_float) {
        expect_each_near(wide.host(), reference, 1e-5, 1e-5 * size);
      } else {
        expect_each_near(narrow.host(), reference, kBf16Epsilon, 1e-4 * size);
      }
    }
  }
}

TEST_F(MatmulCuda, AccumulatesOntoTheResidual) {
  RandomValues random(2);
  Matmul matmul = Matmul::create().value();
  const ProductSize s = {20, 128, 256};
  const Bf16s x = random_bf16(random, s.rows * s.in), w = random_bf16(random, s.out * s.in, 0.1f);
  const Bf16s residual = random_bf16(random, s.rows * s.out, 5.0f);
  const auto x_device = to_device(x), w_device = to_device(w), out = to_device(residual);
  const DeviceArray<__nv_bfloat16> scratch(residual.size());
  MatmulArgs args = {.x = x_device.data(),
                     .rows = s.rows,
                     .weight = w_device.data(),
                     .out_features = s.out,
                     .in_features = s.in,
                     .out = scratch.data(),
                     .accumulate = true};
  ASSERT_TRUE(matmul.tune(stream(), args, s.rows));
  args.out = out.data();
  ASSERT_TRUE(matmul.run(stream(), args));
  finish();
  std::vector<double> reference = float64_product(to_doubles(x), to_doubles(w), s);
  for (size_t i = 0; i < reference.size(); ++i) reference[i] += exact(residual[i]);
  // An algorithm that splits K rounds the product to BF16 before it is added: up to four deviations of 1.6.
  expect_each_near(out.host(), reference, kBf16Epsilon, kBf16Epsilon * 4 * 1.6);
}

TEST_F(MatmulCuda, Fp8AgreesWithFloat64OfTheQuantisedOperands) {
  RandomValues random(3);
  Matmul matmul = Matmul::create().value();
  for (const ProductSize& s : {ProductSize{16, 256, 512}, ProductSize{100, 512, 1024}}) {
    const Bf16s x = random_bf16(random, s.rows * s.in, 3.0f);
    const auto x_device = to_device(x);
    const DeviceArray<uint8_t> x8(x.size());
    const DeviceArray<float> x_scale(static_cast<size_t>(s.rows));
    quantize_rows(stream(), x_device.data(), s.rows, s.in, {x8.data(), x_scale.data()});
    std::vector<uint8_t> w8;
    std::vector<float> w_scale;
    for (int64_t i = 0; i < s.out * s.in; ++i)
      w8.push_back(__nv_cvt_float_to_fp8(100 * random.normal(), __NV_SATFINITE, __NV_E4M3));
    for (int64_t n = 0; n < s.out; ++n) w_scale.push_back(0.001f * static_cast<float>(1 + random.uniform()));
    const auto w8_device = to_device(w8);
    const auto w_scale_device = to_device(w_scale);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(s.rows * s.out));
    const MatmulArgs args = {.type = WeightType::kFp8,
                             .x = x8.data(),
                             .x_scale = x_scale.data(),
                             .rows = s.rows,
                             .weight = w8_device.data(),
                             .weight_scale = w_scale_device.data(),
                             .out_features = s.out,
                             .in_features = s.in,
                             .out = out.data()};
    const Status tuned = matmul.tune(stream(), args, s.rows);
    ASSERT_TRUE(tuned) << tuned.error().message;
    ASSERT_TRUE(matmul.run(stream(), args));
    finish();
    const auto value = [](uint8_t byte) {
      __nv_fp8_e4m3 v;
      v.__x = byte;
      return static_cast<double>(static_cast<float>(v));
    };
    const std::vector<uint8_t> x8_host = x8.host();
    const std::vector<float> x_scale_host = x_scale.host();
    std::vector<double> xs, ws;
    for (size_t i = 0; i < x8_host.size(); ++i) {
      xs.push_back(value(x8_host[i]) * static_cast<double>(x_scale_host[i / static_cast<size_t>(s.in)]));
      // E4M3 has 4 significant bits; below 2^-6 its steps are 2^-9. Ties may fall either way: 1e-6.
      const double step = std::max(std::abs(exact(x[i])) / 16 * (1 + 1e-6),
                                   0x1p-9 * static_cast<double>(x_scale_host[i / static_cast<size_t>(s.in)]));
      ASSERT_LE(std::abs(xs[i] - exact(x[i])), step) << i;
    }
    for (size_t i = 0; i < w8.size(); ++i)
      ws.push_back(value(w8[i]) * static_cast<double>(w_scale[i / static_cast<size_t>(s.in)]));
    // The tensor cores keep about 14 bits of a partial FP8 sum.
    EXPECT_LE(relative_distance(to_doubles(out.host()), float64_product(xs, ws, s)), 3e-3);
  }
}

}  // namespace
}  // namespace crible::cuda
