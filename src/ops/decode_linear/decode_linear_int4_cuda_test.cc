// decode_linear over 4-bit weights, against float64 of what the integers mean.
#include <algorithm>
#include <optional>

#include "device/cuda/gpu_test.h"
#include "ops/decode_linear/decode_linear_cuda.h"
#include "ops/gpu_values.h"
#include "ops/matmul/int4_gpu_case.h"

namespace crible::cuda {
namespace {

constexpr float kEpsilon = 1e-6f;

struct Case {
  DecodeEpilogue epilogue;
  int rows, out, in, group;
  bool norm;
};

struct Inputs {
  Case c;
  Int4Case weight;
  Bf16s x, norm, bias, residual;

  Inputs(RandomValues& random, const Case& chosen)
      : c(chosen),
        weight(random, c.epilogue == DecodeEpilogue::kSiluMul ? 2 * c.out : c.out, c.in, c.group,
               1.0f / std::sqrt(static_cast<float>(c.in))),
        x(random_bf16(random, int64_t{c.rows} * c.in, 2.0f)),
        norm(random_bf16(random, c.in)),
        bias(random_bf16(random, c.out)),
        residual(random_bf16(random, int64_t{c.rows} * c.out, 2.0f)) {}

  double dot(int64_t row, int64_t r, double factor) const {
    double sum = 0;
    for (int64_t k = 0; k < c.in; ++k) {
      const double element = exact(x[static_cast<size_t>(r * c.in + k)]);
      sum +=
          weight.weight(row, k) * (c.norm ? element * factor * exact(norm[static_cast<size_t>(k)]) : element);
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
        if (c.epilogue == DecodeEpilogue::kStore) out.push_back(value + exact(bias[static_cast<size_t>(n)]));
        if (c.epilogue == DecodeEpilogue::kAddResidual)
          out.push_back(value + exact(residual[static_cast<size_t>(r * c.out + n)]));
        if (c.epilogue == DecodeEpilogue::kSiluMul)
          out.push_back(value / (1 + std::exp(-value)) * dot(n + c.out, r, factor));
      }
    }
    return out;
  }
};

class DecodeLinearInt4Cuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    prepare_decode_linear();
    shares_.emplace(std::vector<uint64_t>(kDecodeShares, 0));
  }
  std::vector<double> run(const Inputs& k, const Int4Matrix& weight, int prefetch_bytes,
                          bool whole_groups = false) {
    const Case& c = k.c;
    const auto x = to_device(k.x), norm = to_device(k.norm), bias = to_device(k.bias);
    const DeviceArray<__nv_bfloat16> poisoned(static_cast<size_t>(c.rows * c.out));
    const auto residual = to_device(k.residual);
    const auto& out = c.epilogue == DecodeEpilogue::kAddResidual ? residual : poisoned;
    decode_linear(stream(), WeightType::kInt4, c.epilogue,
                  {.x = x.data(),
                   .x_stride = c.in,
                   .rows = c.rows,
                   .norm_weight = c.norm ? norm.data() : nullptr,
                   .epsilon = kEpsilon,
                   .weight = weight.tiles,
                   .group = weight.group,
                   .bias = c.epilogue == DecodeEpilogue::kStore ? bias.data() : nullptr,
                   .out = out.data(),
                   .out_stride = c.out,
                   .out_features = c.out,
                   .in_features = c.in,
                   .shares = whole_groups ? nullptr : shares_->data(),
                   .prefetch_bytes = prefetch_bytes});
    finish();
    const std::vector<uint64_t> shares = shares_->host();
    EXPECT_TRUE(std::all_of(shares.begin(), shares.end(), [](uint64_t s) { return s == 0; }));
    return to_doubles(out.host());
  }

 private:
  std::optional<DeviceArray<uint64_t>> shares_;
};

TEST_F(DecodeLinearInt4Cuda, AgreesWithFloat64) {
  RandomValues random(1);
  using E = DecodeEpilogue;
  for (const Case& c :
       {Case{E::kStore, 1, 64, 128, 128, true}, Case{E::kStore, 3, 960, 640, 64, true},
        Case{E::kStore, 8, 48, 3072, 128, false}, Case{E::kAddResidual, 1, 4096, 1024, 128, false},
        Case{E::kAddResidual, 5, 576, 1536, 32, false}, Case{E::kAddResidual, 2, 160, 25600, 128, false},
        Case{E::kSiluMul, 1, 2120, 640, 128, true}, Case{E::kSiluMul, 8, 136, 4096, 64, true},
        Case{E::kSiluMul, 4, 64, 5120, 32, true}, Case{E::kStore, 7, 48, 256, 128, true},
        Case{E::kAddResidual, 3, 4352, 640, 64, false}}) {
    const Inputs k(random, c);
    const Int4OnDevice weight(stream(), k.weight, c.epilogue == E::kSiluMul);
    const std::vector<double> out = run(k, weight.matrix(), 32 * 1024);
    // x is rounded once to FP16 after the norm, the result once to BF16.
    SCOPED_TRACE(::testing::Message() << "epilogue " << static_cast<int>(c.epilogue) << ", " << c.rows
                                      << " rows of " << c.out << " x " << c.in << ", group " << c.group);
    const std::vector<double> reference = k.reference();
    EXPECT_LE(relative_distance(out, reference), kBf16Epsilon);
    EXPECT_LE(relative_distance(run(k, weight.matrix(), 0, /*whole_groups=*/true), reference), kBf16Epsilon);
    // How far ahead the kernel reaches changes no bit.
    EXPECT_EQ(out, run(k, weight.matrix(), 0));
    EXPECT_EQ(out, run(k, weight.matrix(), 1 << 20));
  }
}

TEST(DecodeLinearInt4Limits, SayWhatFits) {
  EXPECT_TRUE(decode_linear_fits(WeightType::kInt4, 2, 5120, 25600, DecodeEpilogue::kAddResidual));
  EXPECT_FALSE(decode_linear_fits(WeightType::kInt4, 4, 5120, 25600, DecodeEpilogue::kAddResidual))
      << "x must be in shared memory";
  EXPECT_FALSE(decode_linear_fits(WeightType::kInt4, 1, 64, 192, DecodeEpilogue::kStore)) << "half a window";
  EXPECT_FALSE(decode_linear_fits(WeightType::kInt4, 1, 64, 128, DecodeEpilogue::kLogits));
}

}  // namespace
}  // namespace crible::cuda
