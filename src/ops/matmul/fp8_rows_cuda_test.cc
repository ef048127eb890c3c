// Rows in FP8, made in a pass of their own, by the norm and by the gate; and the product with block scales.
#include "ops/matmul/fp8_rows.h"

#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/matmul_cuda.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

double value_of(uint8_t byte) {
  __nv_fp8_e4m3 v;
  v.__x = byte;
  return static_cast<double>(static_cast<float>(v));
}

class Fp8RowsCuda : public GpuTest {
 protected:
  struct OnDevice {
    DeviceArray<uint8_t> data;
    DeviceArray<float> scale;
    int64_t rows, columns;
    bool blocks;
    OnDevice(int64_t r, int64_t c, bool in_blocks)
        : data(static_cast<size_t>(fp8_padded_rows(r) * c)),
          scale(static_cast<size_t>(in_blocks ? fp8_padded_rows(r) * c / kFp8Block : r)),
          rows(r),
          columns(c),
          blocks(in_blocks) {}
    Fp8Rows view() const { return {data.data(), scale.data(), blocks}; }
    std::vector<double> values() const {
      const std::vector<uint8_t> bytes = data.host();
      const std::vector<float> scales = scale.host();
      std::vector<double> out;
      for (int64_t i = 0; i < rows * columns; ++i) {
        const int64_t row = i / columns;
        const int64_t place = blocks ? i % columns / kFp8Block * fp8_padded_rows(rows) + row : row;
        out.push_back(value_of(bytes[static_cast<size_t>(i)]) *
                      static_cast<double>(scales[static_cast<size_t>(place)]));
      }
      return out;
    }
  };

  // Each value is within half a step of the format at its scale, whose largest is 448.
  static void expect_quantised(const OnDevice& out, const std::vector<double>& meant, double share) {
    const std::vector<double> values = out.values();
    const int64_t span = out.blocks ? kFp8Block : out.columns;
    for (int64_t first = 0; first < out.rows * out.columns; first += span) {
      double largest = 0;
      for (int64_t i = first; i < first + span; ++i)
        largest = std::max(largest, std::abs(meant[static_cast<size_t>(i)]));
      for (int64_t i = first; i < first + span; ++i) {
        const double m = meant[static_cast<size_t>(i)];
        const double step = std::max(std::abs(m) / 16, 0x1p-10 * largest / 448);
        ASSERT_LE(std::abs(values[static_cast<size_t>(i)] - m), step * (1 + 1e-5) + share * std::abs(m)) << i;
      }
    }
  }
};

TEST_F(Fp8RowsCuda, APassOfItsOwn) {
  RandomValues random(1);
  for (const bool blocks : {false, true}) {
    for (const int64_t columns : {128, 1024, 4224, 25600}) {
      const int64_t rows = 5;
      Bf16s x = random_bf16(random, rows * columns, 3.0f);
      std::fill(x.begin(), x.begin() + 128, __float2bfloat16_rn(0.0f));
      const auto x_device = to_device(x);
      const OnDevice out(rows, columns, blocks);
      quantize_rows(stream(), x_device.data(), rows, columns, out.view());
      finish();
      expect_quantised(out, to_doubles(x), 0);
    }
  }
}

TEST_F(Fp8RowsCuda, ByTheNorm) {
  RandomValues random(2);
  for (const bool blocks : {false, true}) {
    for (const int64_t columns : {256, 4096, 5120, 14336}) {
      const int64_t rows = 3;
      const Bf16s x = random_bf16(random, rows * columns, 3.0f), weight = random_bf16(random, columns);
      const auto x_device = to_device(x), w_device = to_device(weight);
      const OnDevice out(rows, columns, blocks);
      rms_norm(stream(), {.x = x_device.data(),
                          .x_stride = columns,
                          .weight = w_device.data(),
                          .rows = rows,
                          .columns = columns,
                          .epsilon = 1e-6f,
                          .quantised = out.view()});
      finish();
      std::vector<double> meant;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t c = 0; c < columns; ++c)
          squares += std::pow(exact(x[static_cast<size_t>(r * columns + c)]), 2);
        const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-6);
        for (int64_t c = 0; c < columns; ++c)
          meant.push_back(exact(x[static_cast<size_t>(r * columns + c)]) * factor *
                          exact(weight[static_cast<size_t>(c)]));
      }
      expect_quantised(out, meant, 1e-5);
    }
  }
}

TEST_F(Fp8RowsCuda, ByTheGate) {
  RandomValues random(3);
  for (const bool blocks : {false, true}) {
    for (const int64_t columns : {128, 3072, 12288, 25600}) {
      const int64_t rows = 3;
      const Bf16s both = random_bf16(random, rows * 2 * columns, 2.0f);
      const auto device = to_device(both);
      const OnDevice out(rows, columns, blocks);
      silu_mul(stream(),
               {.gate_up = device.data(), .rows = rows, .columns = columns, .quantised = out.view()});
      finish();
      std::vector<double> meant;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          const double gate = exact(both[static_cast<size_t>(r * 2 * columns + c)]);
          meant.push_back(gate / (1 + std::exp(-gate)) *
                          exact(both[static_cast<size_t>(r * 2 * columns + columns + c)]));
        }
      }
      expect_quantised(out, meant, 1e-5);
    }
  }
}

TEST_F(Fp8RowsCuda, TheProductWithBlockScalesAgreesWithFloat64) {
  RandomValues random(4);
  Matmul matmul = Matmul::create().value();
  struct Size {
    int64_t rows, out, in;
  };
  for (const Size& s : {Size{16, 256, 512}, Size{100, 384, 1024}, Size{33, 128, 640}}) {
    const Bf16s x = random_bf16(random, s.rows * s.in, 3.0f);
    const auto x_device = to_device(x);
    const OnDevice x8(s.rows, s.in, true);
    quantize_rows(stream(), x_device.data(), s.rows, s.in, x8.view());
    const int64_t stride = fp8_scale_stride(s.in);
    std::vector<uint8_t> w8;
    std::vector<float> scales;
    for (int64_t i = 0; i < s.out * s.in; ++i)
      w8.push_back(__nv_cvt_float_to_fp8(100 * random.normal(), __NV_SATFINITE, __NV_E4M3));
    for (int64_t i = 0; i < s.out / kFp8Block * stride; ++i)
      scales.push_back(0.001f * static_cast<float>(1 + random.uniform()));
    const auto w_device = to_device(w8);
    const auto scale_device = to_device(scales);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(fp8_padded_rows(s.rows) * s.out));
    const MatmulArgs args = {.type = WeightType::kFp8,
                             .x = x8.data.data(),
                             .x_scale = x8.scale.data(),
                             .rows = s.rows,
                             .weight = w_device.data(),
                             .weight_scale = scale_device.data(),
                             .block_scales = true,
                             .out_features = s.out,
                             .in_features = s.in,
                             .out = out.data()};
    const Status tuned = matmul.tune(stream(), args, s.rows);
    ASSERT_TRUE(tuned) << tuned.error().message;
    const Status ran = matmul.run(stream(), args);
    ASSERT_TRUE(ran) << ran.error().message;
    finish();
    const std::vector<double> xs = x8.values();
    std::vector<double> expected;
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t n = 0; n < s.out; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < s.in; ++k) {
          sum += xs[static_cast<size_t>(r * s.in + k)] * value_of(w8[static_cast<size_t>(n * s.in + k)]) *
                 static_cast<double>(scales[static_cast<size_t>(n / kFp8Block * stride + k / kFp8Block)]);
        }
        expected.push_back(sum);
      }
    }
    // One rounding to BF16; the tensor cores keep about 14 bits of a partial FP8 sum.
    std::vector<double> got = to_doubles(out.host());
    got.resize(expected.size());  // without the rows that only fill up
    EXPECT_LE(relative_distance(got, expected), 4e-3) << s.rows << " x " << s.out << " x " << s.in;
  }
}

}  // namespace
}  // namespace crible::cuda
