#include <cuda_fp8.h>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kMaxRows = 8192;
constexpr int64_t kIn = 1024;

using MatmulSameBitsCuda = GpuTest;

struct Kind {
  const char* name;
  WeightType type;
  OutputType out_type;
  bool accumulate;
  int64_t out_features;
};

// Every row of x alone, in slices of all sizes, at all places: the same bits as in the product of all rows.
TEST_F(MatmulSameBitsCuda, ARowsResultDependsOnNothingBesideIt) {
  RandomValues random(1);
  for (const Kind& kind : {Kind{"BF16", WeightType::kBf16, OutputType::kBf16, false, 1536},
                           Kind{"BF16 onto the residual", WeightType::kBf16, OutputType::kBf16, true, 512},
                           Kind{"BF16 to float", WeightType::kBf16, OutputType::kFloat, false, 2048},
                           Kind{"FP8", WeightType::kFp8, OutputType::kBf16, false, 1536},
                           Kind{"FP8 onto the residual", WeightType::kFp8, OutputType::kBf16, true, 512}}) {
    const bool fp8 = kind.type == WeightType::kFp8;
    const Bf16s x = random_bf16(random, kMaxRows * kIn),
                w = random_bf16(random, kind.out_features * kIn, 0.1f);
    const DeviceArray<uint8_t> x_device(x.size() * 2), w_device(w.size() * 2);
    const DeviceArray<float> x_scale(static_cast<size_t>(kMaxRows)),
        w_scale(static_cast<size_t>(kind.out_features));
    const auto put = [&](const Bf16s& from, int64_t rows, const DeviceArray<uint8_t>& to,
                         const DeviceArray<float>& scale) {
      const auto source = to_device(from);
      if (fp8) {
        quantize_rows(stream(), source.data(), rows, kIn, {.data = to.data(), .scale = scale.data()});
      } else {
        CRIBLE_CUDA_CHECK(cudaMemcpyAsync(to.data(), source.data(), from.size() * 2, cudaMemcpyDeviceToDevice,
                                          stream().get()));
      }
      finish();
    };
    put(w, kind.out_features, w_device, w_scale);
    const int64_t row_bytes = kind.out_features * (kind.out_type == OutputType::kBf16 ? 2 : 4);
    const DeviceArray<uint8_t> out(static_cast<size_t>(kMaxRows * row_bytes));
    MatmulArgs args = {.type = kind.type,
                       .out_type = kind.out_type,
                       .x = x_device.data(),
                       .x_scale = x_scale.data(),
                       .weight = w_device.data(),
                       .weight_scale = w_scale.data(),
                       .out_features = kind.out_features,
                       .in_features = kIn,
                       .out = out.data(),
                       .accumulate = kind.accumulate};
    Matmul matmul = Matmul::create(MatmulRule::kSameBits).value();
    const Status tuned = matmul.tune(stream(), args, kMaxRows);
    ASSERT_TRUE(tuned) << kind.name << ": " << tuned.error().message;
    put(x, kMaxRows, x_device, x_scale);
    // 0x3F3F is 0.747 in BF16.
    const auto multiply = [&](int64_t first, int64_t rows) {
      CRIBLE_CUDA_CHECK(cudaMemset(out.data(), 0x3F, static_cast<size_t>(kMaxRows * row_bytes)));
      args.x = x_device.data() + first * kIn * (fp8 ? 1 : 2);
      args.x_scale = x_scale.data() + first;
      args.rows = rows;
      EXPECT_TRUE(matmul.run(stream(), args));
      finish();
      std::vector<uint8_t> bytes(static_cast<size_t>(rows * row_bytes));
      CRIBLE_CUDA_CHECK(cudaMemcpy(bytes.data(), out.data(), bytes.size(), cudaMemcpyDeviceToHost));
      return bytes;
    };
    const std::vector<uint8_t> whole = multiply(0, kMaxRows);
    std::vector<int64_t> sizes = {1,  2,  3,   7,   8,   9,   15,  16,  17,   31,   33,
                                  64, 65, 100, 128, 129, 256, 257, 500, 1000, 2049, 5000};
    for (int i = 0; i < 12; ++i) sizes.push_back(random.integer(1, kMaxRows));
    int64_t different = 0;
    for (const int64_t rows : sizes) {
      const int64_t first = random.integer(0, kMaxRows - rows) / 16 * 16;  // FP8 wants aligned rows
      const std::vector<uint8_t> slice = multiply(first, rows);
      different += std::memcmp(slice.data(), whole.data() + first * row_bytes, slice.size()) != 0 ? 1 : 0;
    }
    EXPECT_EQ(different, 0) << kind.name << ": of " << sizes.size() << " slices";
  }
}

}  // namespace
}  // namespace crible::cuda
