// Products that end with silu(gate) · up, in one kernel or in two steps, by either rule.
#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kMaxRows = 700;
constexpr int64_t kIn = 512;
constexpr int64_t kColumns = 416;  // of gate and of up

class GatedMatmulCuda : public GpuTest {
 protected:
  struct Operands {
    Bf16s x, w;
    DeviceArray<__nv_bfloat16> x_device, w_device;
    DeviceArray<uint8_t> x8, w8;
    DeviceArray<float> x_scale, w_scale;
    DeviceArray<__nv_bfloat16> both, gated;

    explicit Operands(RandomValues& random)
        : x(random_bf16(random, kMaxRows * kIn)),
          w(random_bf16(random, 2 * kColumns * kIn, 0.08f)),
          x_device(to_device(x)),
          w_device(to_device(w)),
          x8(x.size()),
          w8(w.size()),
          x_scale(static_cast<size_t>(kMaxRows)),
          w_scale(static_cast<size_t>(2 * kColumns)),
          both(static_cast<size_t>(kMaxRows * 2 * kColumns)),
          gated(static_cast<size_t>(kMaxRows * kColumns)) {}

    GatedMatmulArgs args(bool fp8) const {
      return {.product = {.type = fp8 ? WeightType::kFp8 : WeightType::kBf16,
                          .x = fp8 ? static_cast<const void*>(x8.data()) : x_device.data(),
                          .x_scale = fp8 ? x_scale.data() : nullptr,
                          .weight = fp8 ? static_cast<const void*>(w8.data()) : w_device.data(),
                          .weight_scale = fp8 ? w_scale.data() : nullptr,
                          .out_features = 2 * kColumns,
                          .in_features = kIn,
                          .out = both.data(),
                          .fast_sums = fp8},
              .gated = gated.data(),
              .quantised = {}};
    }
  };
  // x is overwritten by tuning.
  void put_operands(const Operands& o) {
    CRIBLE_CUDA_CHECK(cudaMemcpy(o.x_device.data(), o.x.data(), o.x.size() * 2, cudaMemcpyHostToDevice));
    quantize_rows(stream(), o.x_device.data(), kMaxRows, kIn,
                  {.data = o.x8.data(), .scale = o.x_scale.data()});
    quantize_rows(stream(), o.w_device.data(), 2 * kColumns, kIn,
                  {.data = o.w8.data(), .scale = o.w_scale.data()});
    finish();
  }
  static std::vector<double> expected(const Operands& o, int64_t rows) {
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r) {
      const auto sum = [&](int64_t n) {
        double total = 0;
        for (int64_t k = 0; k < kIn; ++k)
          total +=
              exact(o.x[static_cast<size_t>(r * kIn + k)]) * exact(o.w[static_cast<size_t>(n * kIn + k)]);
        return total;
      };
      for (int64_t c = 0; c < kColumns; ++c) {
        const double gate = sum(c);
        out.push_back(gate / (1 + std::exp(-gate)) * sum(kColumns + c));
      }
    }
    return out;
  }
};

TEST_F(GatedMatmulCuda, AgreesWithFloat64) {
  RandomValues random(1);
  const Operands o(random);
  const std::vector<double> reference = expected(o, kMaxRows);
  for (const MatmulRule rule : {MatmulRule::kFastest, MatmulRule::kSameBits}) {
    for (const bool fp8 : {false, true}) {
      Matmul matmul = Matmul::create(rule).value();
      put_operands(o);
      GatedMatmulArgs args = o.args(fp8);
      const Status tuned = matmul.tune_gated(stream(), args, kMaxRows);
      ASSERT_TRUE(tuned) << tuned.error().message;
      put_operands(o);
      for (const int64_t rows : {int64_t{1}, int64_t{17}, int64_t{256}, kMaxRows}) {
        CRIBLE_CUDA_CHECK(cudaMemset(o.gated.data(), 0xFF, static_cast<size_t>(kMaxRows * kColumns) * 2));
        args.product.rows = rows;
        ASSERT_TRUE(matmul.run_gated(stream(), args));
        finish();
        Bf16s out = o.gated.host();
        for (size_t i = static_cast<size_t>(rows * kColumns); i < out.size(); ++i)
          ASSERT_TRUE(std::isnan(exact(out[i]))) << "beyond the rows, at " << i;
        out.resize(static_cast<size_t>(rows * kColumns));
        const std::vector<double> part(reference.begin(), reference.begin() + rows * kColumns);
        // Three roundings to BF16 at most; FP8 has four bits in each operand of 512 products.
        EXPECT_LE(relative_distance(to_doubles(out), part), fp8 ? 0.08 : 3 * kBf16Epsilon / 2)
            << rows << " rows";
      }
    }
  }
}

// By kSameBits a row alone, and in slices of all sizes at all places, has the bits that it has among all.
TEST_F(GatedMatmulCuda, ARowsBitsDependOnNothingBesideIt) {
  RandomValues random(2);
  const Operands o(random);
  for (const bool fp8 : {false, true}) {
    Matmul matmul = Matmul::create(MatmulRule::kSameBits).value();
    put_operands(o);
    GatedMatmulArgs args = o.args(fp8);
    ASSERT_TRUE(matmul.tune_gated(stream(), args, kMaxRows));
    put_operands(o);
    const auto run = [&](int64_t first, int64_t rows) {
      CRIBLE_CUDA_CHECK(cudaMemset(o.gated.data(), 0xFF, static_cast<size_t>(kMaxRows * kColumns) * 2));
      args.product.rows = rows;
      args.product.x = static_cast<const uint8_t*>(o.args(fp8).product.x) + first * kIn * (fp8 ? 1 : 2);
      args.product.x_scale = o.x_scale.data() + first;
      EXPECT_TRUE(matmul.run_gated(stream(), args));
      finish();
      Bf16s out = o.gated.host();
      out.resize(static_cast<size_t>(rows * kColumns));
      return out;
    };
    const Bf16s all = run(0, kMaxRows);
    for (int i = 0; i < 24; ++i) {
      const int64_t rows = i < 4 ? i + 1 : random.integer(1, kMaxRows);
      const int64_t first = random.integer(0, kMaxRows - rows);
      const Bf16s slice = run(first, rows);
      EXPECT_EQ(std::memcmp(slice.data(), all.data() + first * kColumns, slice.size() * 2), 0)
          << rows << " rows from " << first << (fp8 ? ", FP8" : "");
    }
  }
}

}  // namespace
}  // namespace crible::cuda
