#include "ops/decode_linear/decode_linear_cuda.h"

#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

constexpr float kEpsilon = 1e-6f;

struct Case {
  WeightType type;
  DecodeEpilogue epilogue;
  int rows, out, in;
  bool norm;
  bool blocks = false;  // FP8: a scale per 128 x 128
};

// All of one case: inputs, their exact values, the float64 result.
struct DecodeLinearCase {
  const Case c;
  int64_t weight_rows;
  Bf16s x, norm, bias, residual, weight16;
  std::vector<uint8_t> weight8;
  std::vector<float> scale;

  DecodeLinearCase(RandomValues& random, const Case& chosen)
      : c(chosen), weight_rows(c.epilogue == DecodeEpilogue::kSiluMul ? 2 * c.out : c.out) {
    x = random_bf16(random, int64_t{c.rows} * c.in, 2.0f);
    norm = random_bf16(random, c.in);
    bias = random_bf16(random, c.out);
    residual = random_bf16(random, int64_t{c.rows} * c.out, 2.0f);
    const float size = 1.0f / std::sqrt(static_cast<float>(c.in));
    weight16 = random_bf16(random, weight_rows * c.in, size);
    const int64_t scales = c.blocks ? weight_rows / kFp8Block * fp8_scale_stride(c.in) : weight_rows;
    for (int64_t r = 0; r < scales; ++r)
      scale.push_back(size / 100 * static_cast<float>(0.5 + random.uniform()));
    for (int64_t i = 0; i < weight_rows * c.in; ++i) {
      weight8.push_back(__nv_cvt_float_to_fp8(100 * random.normal(), __NV_SATFINITE, __NV_E4M3));
    }
  }
  double weight(int64_t row, int64_t column) const {
    const size_t i = static_cast<size_t>(row * c.in + column);
    if (c.type == WeightType::kBf16) return exact(weight16[i]);
    __nv_fp8_e4m3 value;
    value.__x = weight8[i];
    const int64_t place = c.blocks ? row / kFp8Block * fp8_scale_stride(c.in) + column / kFp8Block : row;
    return static_cast<double>(static_cast<float>(value)) *
           static_cast<double>(scale[static_cast<size_t>(place)]);
  }
  double dot(int64_t row, int64_t r, double factor) const {
    double sum = 0;
    for (int64_t k = 0; k < c.in; ++k) {
      const double element = exact(x[static_cast<size_t>(r * c.in + k)]);
      sum += weight(row, k) * (c.norm ? element * factor * exact(norm[static_cast<size_t>(k)]) : element);
    }
    return sum;
  }
  std::vector<double> reference() const {
    std::vector<double> out;
    for (int64_t r = 0; r < c.rows; ++r) {
      double squares = 0;
      for (int64_t k = 0; k < c.in; ++k) squares += std::pow(exact(x[static_cast<size_t>(r * c.in + k)]), 2);
      const double factor = 1 / std::sqrt(squares / c.in + static_cast<double>(kEpsilon));
      for (int64_t n = 0; n < c.out; ++n) {
        const double value = dot(n, r, factor);
        switch (c.epilogue) {
          case DecodeEpilogue::kStore: out.push_back(value + exact(bias[static_cast<size_t>(n)])); break;
          case DecodeEpilogue::kAddResidual:
            out.push_back(value + exact(residual[static_cast<size_t>(r * c.out + n)]));
            break;
          case DecodeEpilogue::kSiluMul:
            out.push_back(value / (1 + std::exp(-value)) * dot(n + c.out, r, factor));
            break;
          case DecodeEpilogue::kLogits: out.push_back(value); break;
        }
      }
    }
    return out;
  }
};

class DecodeLinearCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) prepare_decode_linear();
  }
  std::vector<double> run(const DecodeLinearCase& k, int prefetch_bytes) {
    const Case& c = k.c;
    const auto x = to_device(k.x), norm = to_device(k.norm), bias = to_device(k.bias),
               w16 = to_device(k.weight16);
    const auto w8 = to_device(k.weight8);
    const auto scale = to_device(k.scale);
    const DeviceArray<float> logits(static_cast<size_t>(c.rows * c.out));
    const DeviceArray<__nv_bfloat16> poisoned(static_cast<size_t>(c.rows * c.out));
    const auto residual = to_device(k.residual);
    const bool adds = c.epilogue == DecodeEpilogue::kAddResidual,
               is_float = c.epilogue == DecodeEpilogue::kLogits;
    const DeviceArray<__nv_bfloat16>& narrow = adds ? residual : poisoned;
    decode_linear(stream(), c.type, c.epilogue,
                  {.x = x.data(),
                   .x_stride = c.in,
                   .rows = c.rows,
                   .norm_weight = c.norm ? norm.data() : nullptr,
                   .epsilon = kEpsilon,
                   .weight = c.type == WeightType::kBf16 ? static_cast<const void*>(w16.data()) : w8.data(),
                   .weight_scale = scale.data(),
                   .group = c.blocks ? 128 : 0,
                   .bias = c.epilogue == DecodeEpilogue::kStore ? bias.data() : nullptr,
                   .out = is_float ? static_cast<void*>(logits.data()) : narrow.data(),
                   .out_stride = c.out,
                   .out_features = c.out,
                   .in_features = c.in,
                   .prefetch_bytes = prefetch_bytes});
    finish();
    return is_float ? to_doubles(logits.host()) : to_doubles(narrow.host());
  }
  void check(RandomValues& random, const Case& c) {
    const DecodeLinearCase k(random, c);
    const std::vector<double> reference = k.reference();
    const std::vector<double> out = run(k, 32 * 1024);
    // x is rounded once after the norm (BF16, or FP16 beside FP8 weights), the result once.
    EXPECT_LE(relative_distance(out, reference), kBf16Epsilon)
        << "epilogue " << static_cast<int>(c.epilogue) << ", " << c.rows << " rows of " << c.out << " x "
        << c.in;
    // How far ahead the kernel reaches changes no bit.
    EXPECT_EQ(out, run(k, 0));
    EXPECT_EQ(out, run(k, 1 << 20));
  }
};

TEST_F(DecodeLinearCuda, AgreesWithFloat64) {
  RandomValues random(1);
  for (const Case& c : {Case{WeightType::kFp8, DecodeEpilogue::kStore, 1, 256, 1152, true, true},
                        Case{WeightType::kFp8, DecodeEpilogue::kStore, 8, 384, 3072, true, true},
                        Case{WeightType::kFp8, DecodeEpilogue::kAddResidual, 2, 1024, 2560, false, true},
                        Case{WeightType::kFp8, DecodeEpilogue::kSiluMul, 3, 640, 1024, true, true},
                        Case{WeightType::kFp8, DecodeEpilogue::kSiluMul, 6, 128, 4096, true, true}})
    check(random, c);
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    for (const Case& c : {Case{type, DecodeEpilogue::kStore, 1, 64, 128, true},
                          Case{type, DecodeEpilogue::kStore, 3, 960, 640, true},
                          Case{type, DecodeEpilogue::kStore, 8, 48, 3072, false},
                          Case{type, DecodeEpilogue::kAddResidual, 1, 4096, 1024, false},
                          Case{type, DecodeEpilogue::kAddResidual, 5, 576, 1536, false},
                          Case{type, DecodeEpilogue::kSiluMul, 1, 2120, 640, true},
                          Case{type, DecodeEpilogue::kSiluMul, 8, 136, 4096, true},
                          Case{type, DecodeEpilogue::kLogits, 1, 8192, 640, true},
                          Case{type, DecodeEpilogue::kLogits, 2, 4800, 512, true}})
      check(random, c);
  }
}

TEST(DecodeLinearLimits, SayWhatFits) {
  EXPECT_TRUE(decode_linear_fits(WeightType::kBf16, 8, 12288, 4096, DecodeEpilogue::kSiluMul));
  EXPECT_TRUE(decode_linear_fits(WeightType::kBf16, 6, 4096, 12288, DecodeEpilogue::kAddResidual));
  EXPECT_FALSE(decode_linear_fits(WeightType::kBf16, 9, 4096, 4096, DecodeEpilogue::kStore));
  EXPECT_FALSE(decode_linear_fits(WeightType::kBf16, 8, 4096, 25600, DecodeEpilogue::kStore))
      << "x must be in shared memory";
  EXPECT_TRUE(decode_linear_fits(WeightType::kBf16, 1, 4096, 576, DecodeEpilogue::kStore));
  EXPECT_FALSE(decode_linear_fits(WeightType::kFp8, 1, 4096, 576, DecodeEpilogue::kStore)) << "half a line";
  EXPECT_FALSE(decode_linear_fits(WeightType::kBf16, 1, 4096, 100, DecodeEpilogue::kStore));
  EXPECT_FALSE(decode_linear_fits(WeightType::kBf16, 1, 4100, 4096, DecodeEpilogue::kStore));
}

}  // namespace
}  // namespace crible::cuda
